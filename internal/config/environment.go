package config

import (
	"regexp"
	"strings"

	"shareai/internal/account"
)

// References to the environment are replaced after parsing, so that a value may contain anything that
// means something in YAML. In a list or mapping in brackets, however, YAML takes the braces of a bare
// ${NAME} for a mapping. They are therefore replaced by characters without a meaning, one for one so
// that columns stay right, and put back in every scalar.
const (
	openMark  = '\ue000' // for use within one program, by definition
	closeMark = '\ue001'
)

var (
	reference = regexp.MustCompile(`\$\{([^{}\s,"'\[\]]{0,200})\}`)
	marks     = strings.NewReplacer(string(openMark), "{", string(closeMark), "}")
	variable  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

func protect(source string) string {
	return reference.ReplaceAllString(source, "$$"+string(openMark)+"$1"+string(closeMark))
}

func restore(text string) string { return marks.Replace(text) }

// expand gives n a text in which every ${NAME} is replaced by the variable's value, and $${ by ${.
func (b *builder) expand(n *node, text string) {
	n.kind = scalar
	text = restore(text)
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		if !found {
			out.WriteString(text)
			break
		}
		if escaped, ok := strings.CutSuffix(before, "$"); ok {
			out.WriteString(escaped + "${")
			text = rest
			continue
		}
		out.WriteString(before)
		name, after, closed := strings.Cut(rest, "}")
		if !closed || !variable.MatchString(name) {
			b.broken(n, "write ${NAME} with letters, digits and underscores; for the characters themselves write $${", "this is not the name of an environment variable")
			return
		}
		value, set := b.getenv(name)
		if !set {
			b.broken(n, "set it where the gateway is started, for example: export "+name+"=…", "the environment variable "+name+" is not set")
			return
		}
		n.expanded = true
		b.remember(value)
		out.WriteString(value)
		text = after
	}
	n.text = out.String()
}

// leastSecret is the length from which a value is taken out of other packages' messages. Shorter ones
// are no secrets, and would turn every message into noise.
const leastSecret = 8

func (b *builder) remember(value string) {
	if len(value) >= leastSecret {
		b.secrets = append(b.secrets, account.NewSecret(value))
	}
}
