package telemetry

import (
	"context"
	"encoding"
	"fmt"
	"io"
	"log/slog"

	"shareai/internal/fault"
)

// Format is the form of the log.
type Format string

// The forms of the log. The zero value is Text.
const (
	Text Format = "text"
	JSON Format = "json"
)

// NewLogger makes a logger that writes to w whatever is at least of a level. Secrets are not given to
// it in the first place (account.Secret does not print); as the second net everything that looks like
// a credential is taken out of messages and attributes.
func NewLogger(w io.Writer, format Format, level slog.Leveler) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: level}
	switch format {
	case Text, "":
		return slog.New(Redacting(slog.NewTextHandler(w, o))), nil
	case JSON:
		return slog.New(Redacting(slog.NewJSONHandler(w, o))), nil
	default:
		return nil, fmt.Errorf("there is no log format %q: use text or json", format)
	}
}

// Redacting wraps a handler so that every message and attribute passes through fault.Redact.
func Redacting(next slog.Handler) slog.Handler { return redacting{next} }

type redacting struct{ next slog.Handler }

// Enabled implements slog.Handler.
func (h redacting) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h redacting) Handle(ctx context.Context, r slog.Record) error {
	clean := slog.NewRecord(r.Time, r.Level, fault.Redact(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(redact(a))
		return true
	})
	return h.next.Handle(ctx, clean)
}

// WithAttrs implements slog.Handler.
func (h redacting) WithAttrs(attrs []slog.Attr) slog.Handler {
	return redacting{h.next.WithAttrs(redactAll(attrs))}
}

// WithGroup implements slog.Handler.
func (h redacting) WithGroup(name string) slog.Handler { return redacting{h.next.WithGroup(name)} }

func redactAll(attrs []slog.Attr) []slog.Attr {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = redact(a)
	}
	return clean
}

// redact cleans an attribute. What is neither text nor a number becomes text first: a handler would
// write out whatever is inside.
func redact(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		return slog.String(a.Key, redactText(a.Key, v.String()))
	case slog.KindGroup:
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(redactAll(v.Group())...)}
	case slog.KindAny:
		return slog.String(a.Key, redactText(a.Key, textOf(v.Any())))
	default:
		return slog.Attr{Key: a.Key, Value: v}
	}
}

// redactText cleans a text together with its key: "password" says of any text that it is one.
func redactText(key, s string) string {
	prefix := key + "="
	clean := fault.Redact(prefix + s)
	if len(clean) < len(prefix) || clean[:len(prefix)] != prefix {
		return fault.Redact(s)
	}
	return clean[len(prefix):]
}

func textOf(v any) string {
	switch v := v.(type) {
	case error:
		return v.Error()
	case encoding.TextMarshaler:
		if text, err := v.MarshalText(); err == nil {
			return string(text)
		}
	}
	return fmt.Sprintf("%+v", v)
}
