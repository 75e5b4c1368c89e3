package openai

import (
	"fmt"

	"shareai/internal/fault"
)

// maxFallbacks is how many models a request may name in models, and in fallbacks.
const maxFallbacks = 16

// Models are the names in `models`, OpenRouter's list of models in the order of preference; nil when
// the client sent none. The error is a *fault.Error of kind Invalid.
func (r *Request) Models() ([]string, error) { return r.names("models", readModelName) }

// Fallbacks are the names in `fallbacks`, whose entries are names or objects {"model": name}; nil when
// the client sent none. The error is a *fault.Error of kind Invalid.
func (r *Request) Fallbacks() ([]string, error) { return r.names("fallbacks", readFallback) }

// names reads a list of models with a reader for one entry. param names the entry in messages.
func (r *Request) names(list string, read func(param string, raw []byte) (string, error)) ([]string, error) {
	raw, ok := r.Field(list)
	if !ok || raw[0] == 'n' {
		return nil, nil
	}
	if raw[0] != '[' {
		return nil, wrongType(list, "an array of model names", raw)
	}
	var names []string
	var problem error
	s := scanner{src: raw}
	s.eachElement(0, func(i int) int {
		end := s.value(i, 0)
		if problem != nil {
			return end
		}
		if len(names) == maxFallbacks {
			problem = invalidValue(list, fmt.Sprintf("names more than %d models. Send fewer.", maxFallbacks))
			return end
		}
		var name string
		name, problem = read(fmt.Sprintf("%s[%d]", list, len(names)), raw[i:end])
		names = append(names, name)
		return end
	})
	if problem != nil {
		return nil, problem
	}
	return names, nil
}

// readModelName reads the name of a model. The error is untyped nil or a *fault.Error.
func readModelName(param string, raw []byte) (string, error) {
	if raw[0] != '"' {
		return "", wrongType(param, "a string", raw)
	}
	name := unquote(raw)
	switch {
	case name == "":
		return "", fault.New(fault.Invalid, "invalid_type",
			fmt.Sprintf("%q is empty. Name a model; GET /v1/models lists them.", param)).About(param)
	case len(name) > maxModelName:
		return "", invalidValue(param, "is longer than 512 bytes. GET /v1/models lists the names that exist.")
	}
	return name, nil
}

// readFallback reads a name or an object with nothing but one. An object with more, such as messages
// of its own, is refused: the caller would count on them.
func readFallback(param string, raw []byte) (string, error) {
	if raw[0] != '{' {
		return readModelName(param, raw)
	}
	s := scanner{src: raw}
	o := s.object(0, nil)
	if s.problem != "" || len(o.members) != 1 || string(o.name(&o.members[0])) != "model" {
		return "", invalidValue(param, `must be the name of a model or {"model": "…"} and nothing more.`)
	}
	return readModelName(param+".model", o.raw(&o.members[0]))
}
