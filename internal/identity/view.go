package identity

import "encoding/json"

// view is what the audit log says of an act. It holds ids, roles and addresses; never a secret.
type view map[string]string

func (v view) encode() json.RawMessage {
	text, _ := json.Marshal(v) // strings always have a JSON form
	return text
}
