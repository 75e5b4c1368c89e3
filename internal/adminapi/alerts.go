package adminapi

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shareai/internal/account"
	"shareai/internal/alert"
)

// Alerts are the episodes that people are told of, and their messages.
type Alerts interface {
	// Episodes lists what lives or ended after a moment, the newest first.
	Episodes(ctx context.Context, endedAfter time.Time) ([]alert.Episode, error)
	// EpisodeDeliveries lists the messages of some episodes.
	EpisodeDeliveries(ctx context.Context, episodes ...string) ([]alert.Outgoing, error)
}

// Alert is one time that something was not well.
type Alert struct {
	ID           string         `json:"id"`
	Rule         string         `json:"rule" enum:"budget,fallbacks,fallback_cost,provider_down,model_down,node_gone,error_rate"`
	Subject      string         `json:"subject" doc:"What it is about, among all of its rule."`
	State        string         `json:"state" enum:"open,ended"`
	Organization string         `json:"organization,omitempty" doc:"Whose it is; missing: it concerns the whole installation."`
	Title        string         `json:"title"`
	Text         string         `json:"text"`
	Details      map[string]any `json:"details,omitempty" doc:"Numbers, which differ by rule."`
	Since        time.Time      `json:"since" doc:"When it was first seen."`
	OpenedAt     time.Time      `json:"opened_at"`
	EndedAt      time.Time      `json:"ended_at,omitzero"`
	Seconds      int64          `json:"lasted_seconds,omitempty"`
	Messages     []AlertMessage `json:"messages" nullable:"false" doc:"Only the operator sees them."`
}

// AlertMessage is what became of a message.
type AlertMessage struct {
	Receiver  string    `json:"receiver"`
	Event     string    `json:"event"`
	State     string    `json:"state" enum:"waiting,delivered,failed"`
	Tries     int       `json:"tries"`
	CreatedAt time.Time `json:"created_at"`
	NextAt    time.Time `json:"next_at,omitzero" doc:"When it is tried again."`
	DoneAt    time.Time `json:"done_at,omitzero"`
	Error     string    `json:"error,omitempty" doc:"Of the last try."`
}

// AlertList is a page of alerts.
type AlertList struct {
	Alerts []Alert `json:"alerts" nullable:"false" doc:"The newest first."`
	NextCursor
}

type (
	alertsInput struct {
		Page
		State string    `query:"state" enum:"open,all" default:"all"`
		Since time.Time `query:"since" doc:"Also what has ended since then; missing: within seven days."`
	}
	alertsAnswer struct{ Body AlertList }
)

// alertsBack is how far back a list goes that does not say.
const alertsBack = 7 * 24 * time.Hour

func (a *API) addAlerts() {
	operation(a, huma.Operation{
		OperationID: "list-alerts", Method: http.MethodGet, Path: "/api/v1/alerts", Tags: []string{"Alerts"}, Summary: "List alerts",
		Description: "What is open, and what has ended lately. The operator sees everything; everybody else what concerns the organization.",
	}, account.ReadAlerts, a.listAlerts)
}

func (a *API) listAlerts(ctx context.Context, c *Caller, in *alertsInput) (*alertsAnswer, error) {
	if in.Since.IsZero() {
		in.Since = time.Now().Add(-alertsBack)
	}
	episodes, err := a.Alerts.Episodes(ctx, in.Since)
	if err != nil {
		return nil, err
	}
	episodes = slices.DeleteFunc(episodes, func(e alert.Episode) bool {
		return e.State == alert.Pending || in.State == string(alert.Open) && e.State != alert.Open ||
			!c.rights.Operator && e.Report.Organization != c.Organization
	})
	page, next, err := pageOf(episodes, in.Page, func(e *alert.Episode) string {
		return fmt.Sprintf("%019d %s", math.MaxInt64-e.Since.UnixMicro(), e.ID) // the newest first
	})
	if err != nil {
		return nil, err
	}
	out := &alertsAnswer{Body: AlertList{Alerts: []Alert{}, NextCursor: next}}
	told, err := a.alertMessages(ctx, c, page)
	for i := range page {
		out.Body.Alerts = append(out.Body.Alerts, viewAlert(&page[i], told[page[i].ID]))
	}
	return out, err
}

// alertMessages are the messages by episode. Receivers are the installation's.
func (a *API) alertMessages(ctx context.Context, c *Caller, page []alert.Episode) (map[string][]AlertMessage, error) {
	told := map[string][]AlertMessage{}
	if !c.rights.Operator {
		return told, nil
	}
	ids := make([]string, len(page))
	for i := range page {
		ids[i] = page[i].ID
	}
	messages, err := a.Alerts.EpisodeDeliveries(ctx, ids...)
	for i := range messages {
		m := &messages[i]
		v := AlertMessage{
			Receiver: m.Receiver, Event: m.Message.Event, State: m.State, Tries: m.Tries, CreatedAt: m.CreatedAt, DoneAt: m.DoneAt, Error: m.Error,
		}
		if m.DoneAt.IsZero() {
			v.NextAt = m.NextAt
		}
		told[m.Message.Episode.ID] = append(told[m.Message.Episode.ID], v)
	}
	return told, err
}

func viewAlert(e *alert.Episode, told []AlertMessage) Alert {
	v := Alert{
		ID: e.ID, Rule: string(e.Rule), Subject: e.Subject, State: string(e.State), Organization: e.Report.Organization, Title: e.Report.Title,
		Text: e.Report.Text, Details: e.Report.Details, Since: e.Since, OpenedAt: e.OpenedAt, EndedAt: e.EndedAt, Messages: append([]AlertMessage{}, told...),
	}
	if e.State == alert.Ended {
		v.Seconds = int64(e.Lasted().Round(time.Second).Seconds())
	}
	return v
}
