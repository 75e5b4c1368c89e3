package smoke

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
)

// mostLimited bounds how many requests it takes to use a limit up: a larger one is not tried.
const mostLimited = 100

// limits uses up the limits of keys that are there for it.
func (r *run) limits(ctx context.Context) {
	i := slices.IndexFunc(r.calls, func(c Call) bool { return c.Mode == Chat })
	switch {
	case r.RateKey == "" && r.QuotaKey == "":
		r.say(Limits, "", NotAvailable, "not tried: it takes an API key with a limit of its own")
		return
	case i < 0:
		r.say(Limits, "", NotAvailable, "no chat route has answered")
		return
	}
	a := ask{model: r.calls[i].Model, mode: Chat, only: r.calls[i].Provider}
	if r.RateKey != "" {
		r.verdict("requests per minute", r.rate(ctx, a))
	}
	if r.QuotaKey != "" {
		r.verdict("budget", r.quota(ctx, a))
	}
}

// finding is what came of a limit: the verdict on it, or an error.
type finding struct {
	verdict Verdict
	detail  string
	err     error
}

func pass(format string, args ...any) finding {
	return finding{Pass, fmt.Sprintf(format, args...), nil}
}

func failed(format string, args ...any) finding {
	return finding{Fail, "", fmt.Errorf(format, args...)}
}

func (r *run) verdict(subject string, f finding) {
	if f.err != nil {
		r.fail(Limits, subject, f.err)
		return
	}
	r.say(Limits, subject, f.verdict, f.detail)
}

// rate asks until it is refused: not before the answers said that nothing is left, and not after.
func (r *run) rate(ctx context.Context, a ask) finding {
	limit, left := 0, -1
	for n := range mostLimited + 1 {
		header, err := r.as(ctx, r.RateKey, a)
		if refused := limited(err, http.StatusTooManyRequests, "rate_limit_exceeded"); refused != nil {
			switch seconds, _ := strconv.Atoi(refused.retryAfter); {
			case seconds < 1:
				return failed("the refusal does not say when to try again (Retry-After)")
			case left > 0:
				return failed("refused although %d were left", left)
			case n == 0:
				return pass("nothing was left of it; refused for %d s", seconds)
			default:
				return pass("%s answered of %d, the next one refused for %d s", count(n, "request"), limit, seconds)
			}
		}
		if err != nil {
			return finding{err: err}
		}
		if left == 0 {
			return failed("answered although nothing was left of the limit")
		}
		if limit, err = strconv.Atoi(header.Get("X-Ratelimit-Limit-Requests")); err != nil {
			return failed("the answer does not name a limit (x-ratelimit-limit-requests): the key has none")
		}
		if left, err = strconv.Atoi(header.Get("X-Ratelimit-Remaining-Requests")); err != nil {
			return failed("the answer does not say what is left (x-ratelimit-remaining-requests)")
		}
		if left > mostLimited {
			return finding{NotAvailable, fmt.Sprintf("%d requests would have to be made", left), nil}
		}
	}
	return failed("more than %d requests were answered, of %d", mostLimited, limit)
}

// quota asks until its budget is spent.
func (r *run) quota(ctx context.Context, a ask) finding {
	for n := range mostLimited {
		_, err := r.as(ctx, r.QuotaKey, a)
		switch refused := limited(err, http.StatusPaymentRequired, "insufficient_quota"); {
		case refused != nil && n == 0:
			return pass("nothing was left of it; refused")
		case refused != nil:
			return pass("%s answered, the next one refused", count(n, "request"))
		case err != nil:
			return finding{err: err}
		}
	}
	return failed("%d requests were answered, and none refused", mostLimited)
}

// as asks with another key and returns the header of the answer.
func (r *run) as(ctx context.Context, key string, a ask) (http.Header, error) {
	c := r.client
	c.key = key
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	answer, err := c.send(ctx, http.MethodPost, a.path(), a.body())
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	_, err = io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer))
	return answer.Header, err
}

// limited is the refusal of a limit, or nil.
func limited(err error, status int, code string) *refusal {
	var r *refusal
	if errors.As(err, &r) && r.status == status && r.code == code {
		return r
	}
	return nil
}
