package fault

import "regexp"

// secretShapes are the forms in which credentials turn up in other people's error texts. Our own
// code never formats a secret (account.Secret can not be printed); this is the second net, for
// text that comes from providers, drivers and URLs.
var secretShapes = []*regexp.Regexp{
	regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}`),
	regexp.MustCompile(`(?i)\b((?:api|access|secret)[-_]?key|authorization|password|passwd|token)(["']?\s*[:=]\s*["']?)[^\s"',;&}]{4,}`),
	// Not key_: that is how our own key ids begin, which are public.
	regexp.MustCompile(`\b((sk|pk|rk|gsk|xai|hf|nt-shareai)[-_]|key-|AIza|AKIA)[A-Za-z0-9_*.-]{6,}`),
	regexp.MustCompile(`([a-z][a-z0-9+.-]*://)[^\s/@]+@`),
}

var replacements = []string{"$1 [redacted]", "$1$2[redacted]", "[redacted]", "$1[redacted]@"}

// Redact returns s with everything that looks like a credential replaced by [redacted].
func Redact(s string) string {
	for i, shape := range secretShapes {
		s = shape.ReplaceAllString(s, replacements[i])
	}
	return s
}
