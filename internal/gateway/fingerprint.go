package gateway

import (
	"github.com/cespare/xxhash/v2"

	"shareai/internal/openai"
)

// promptFingerprint is the same for the same prompt, byte for byte, on every replica, and 0 when there is none.
// It tells prompts apart in reports, not against somebody who looks for two with the same one.
func promptFingerprint(r *openai.Request) uint64 {
	for _, name := range [...]string{"messages", "input", "prompt"} {
		if prompt, ok := r.Field(name); ok {
			return max(xxhash.Sum64(prompt), 1)
		}
	}
	return 0
}
