package telemetry

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/usage"
)

// AccessLog writes one line for each finished request: at debug level, or as a warning when the
// gateway could not answer.
type AccessLog struct {
	ctx context.Context
	log *slog.Logger
}

// NewAccessLog makes an access log. Handlers of the log are given ctx.
func NewAccessLog(ctx context.Context, log *slog.Logger) *AccessLog {
	return &AccessLog{ctx: ctx, log: log}
}

// Observe writes the line.
func (l *AccessLog) Observe(r *usage.Record) {
	level := slog.LevelDebug
	if r.Status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	if !l.log.Enabled(l.ctx, level) {
		return
	}
	l.log.LogAttrs(l.ctx, level, "request",
		slog.String("request_id", r.ID), slog.String("endpoint", string(r.Endpoint)),
		slog.String("who", who(r)), slog.String("requested", clip(r.Requested)),
		slog.String("model", r.Model), slog.String("provider", r.Provider),
		slog.Int("status", r.Status), slog.String("code", codeOf(r)),
		slog.Float64("ms", float64(r.Duration)/1000), slog.Int("attempts", len(r.Attempts)),
		slog.String("cost_usd", catalog.FormatUSD(r.Cost)),
		slog.String("failover", r.Cause()), slog.String("drill", r.Drill),
	)
}

// who asked: organization/project/key id; empty when nobody was authenticated.
func who(r *usage.Record) string {
	if r.KeyID == "" {
		return ""
	}
	return r.Organization + "/" + r.Project + "/" + r.KeyID
}

// longestText is how much of a text that others chose is shown, in bytes.
const longestText = 256

func clip(s string) string { return fault.Clip(s, longestText) }

// codeOf is the record's error code. A provider's own code is passed on in answers; here it counts
// only when it is a single word, because anything else may hold what was said.
func codeOf(r *usage.Record) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
	if len(r.Code) > 64 || strings.Trim(r.Code, letters) != "" {
		return "other"
	}
	return r.Code
}
