//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// records holds what ShareAI says it served against what the load saw.
type records struct {
	Written  uint64 `json:"written"`
	Answered uint64 `json:"answered"`
	Sent     uint64 `json:"sent"`
}

// countRecords asks the binary for its usage, once it has stopped.
func (b *bench) countRecords(ctx context.Context, c *contender) (*records, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	args := strings.Fields(strings.ReplaceAll(b.records, "{config}", c.spec.Config))
	out, err := exec.CommandContext(ctx, b.shareai, args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("counting records with %s %s: %w", b.shareai, strings.Join(args, " "), err)
	}
	written, err := totalRequests(out)
	if err != nil {
		return nil, err
	}
	return &records{Written: written, Answered: c.Answered, Sent: c.Sent}, nil
}

// totalRequests finds the number of requests in a usage report.
func totalRequests(usage []byte) (uint64, error) {
	var report struct {
		Total struct {
			Requests *uint64 `json:"requests"`
		} `json:"total"`
	}
	if err := json.Unmarshal(usage, &report); err != nil {
		return 0, fmt.Errorf("the usage report is not what was expected: %w", err)
	}
	if report.Total.Requests == nil {
		return 0, fmt.Errorf("the usage report has no total.requests: %.200s", usage)
	}
	return *report.Total.Requests, nil
}

// judge wants a record for every answer. A request that was sent but not answered in
// full may have one as well.
func (r *records) judge() verdict {
	v := verdict{
		Bar:     "a record for every answered request",
		Found:   fmt.Sprintf("%d written, %d answered", r.Written, r.Answered),
		Verdict: passed,
	}
	if r.Written < r.Answered || r.Written > r.Sent {
		v.Verdict = failed
	}
	return v
}
