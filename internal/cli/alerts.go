package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/alert"
	"shareai/internal/notify"
)

type alertsCommands struct {
	List alertsListCommand `cmd:"" default:"withargs" help:"List what is open and what was, with the messages that told of it. What you get without a command."`
	Test alertsTestCommand `cmd:"" help:"Send a test message to a receiver, now."`
}

type alertsListCommand struct {
	Since moment `placeholder:"WHEN" help:"Also what has ended since then: 2026-11-01, 2026-11-01T15:04:05Z, 24h or 7d. Default: 7d."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// episodeView is an episode in JSON.
type episodeView struct {
	ID       string         `json:"id"`
	Rule     alert.Rule     `json:"rule"`
	Subject  string         `json:"subject"`
	State    alert.State    `json:"state"`
	Since    alert.Moment   `json:"since"`
	OpenedAt alert.Moment   `json:"opened_at,omitzero"`
	EndedAt  alert.Moment   `json:"ended_at,omitzero"`
	Seconds  int64          `json:"lasted_seconds,omitempty"`
	Messages []deliveryView `json:"messages"`
	alert.Report
}

type deliveryView struct {
	ID        string       `json:"id"`
	Receiver  string       `json:"receiver"`
	Event     string       `json:"event"`
	State     string       `json:"state"`
	Tries     int          `json:"tries"`
	CreatedAt alert.Moment `json:"created_at"`
	DoneAt    alert.Moment `json:"done_at,omitzero"`
	NextAt    alert.Moment `json:"next_at,omitzero"`
	Error     string       `json:"error,omitempty"`
}

// Run lists episodes.
func (c *alertsListCommand) Run(ctx context.Context, t *terminal) error {
	local, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }()
	since := c.Since.before(time.Now())
	if !c.Since.set() {
		since = time.Now().AddDate(0, 0, -7)
	}
	episodes, err := local.Store.Episodes(ctx, since)
	if err != nil {
		return err
	}
	ids := make([]string, len(episodes))
	for i := range episodes {
		ids[i] = episodes[i].ID
	}
	messages, err := local.Store.EpisodeDeliveries(ctx, ids...)
	if err != nil {
		return err
	}
	views := viewEpisodes(episodes, messages)
	if c.JSON {
		return t.json(map[string][]episodeView{"alerts": views})
	}
	showEpisodes(t, views)
	return nil
}

// viewEpisodes puts open ones first. What is only pending nobody was told of.
func viewEpisodes(episodes []alert.Episode, messages []alert.Outgoing) []episodeView {
	told := map[string][]deliveryView{}
	for i := range messages {
		m := &messages[i]
		v := deliveryView{
			ID: m.Message.ID, Receiver: m.Receiver, Event: m.Message.Event, State: m.State, Tries: m.Tries,
			CreatedAt: alert.Moment(m.CreatedAt), DoneAt: alert.Moment(m.DoneAt), Error: m.Error,
		}
		if m.DoneAt.IsZero() {
			v.NextAt = alert.Moment(m.NextAt)
		}
		told[m.Message.Episode.ID] = append(told[m.Message.Episode.ID], v)
	}
	views := []episodeView{}
	for i := range episodes {
		e := &episodes[i]
		v := episodeView{
			ID: e.ID, Rule: e.Rule, Subject: e.Subject, State: e.State, Since: alert.Moment(e.Since), OpenedAt: alert.Moment(e.OpenedAt),
			EndedAt: alert.Moment(e.EndedAt), Report: e.Report, Messages: append([]deliveryView{}, told[e.ID]...),
		}
		if e.State == alert.Ended {
			v.Seconds = int64(e.Lasted().Round(time.Second).Seconds())
		}
		if e.State != alert.Pending {
			views = append(views, v)
		}
	}
	ended := map[alert.State]int{alert.Ended: 1}
	slices.SortStableFunc(views, func(a, b episodeView) int { return cmp.Compare(ended[a.State], ended[b.State]) })
	return views
}

func showEpisodes(t *terminal, views []episodeView) {
	if len(views) == 0 {
		t.print("Nothing is open, and nothing was.\n")
		return
	}
	tb := &table{columns: []column{{title: "SINCE"}, {title: "STATE"}, {title: "LASTED", align: right}, {title: "RULE"}, {title: "WHAT"}, {title: "TOLD"}}}
	for i := range views {
		v := &views[i]
		lasted := time.Since(time.Time(v.Since))
		if v.State == alert.Ended {
			lasted = time.Duration(v.Seconds) * time.Second
		}
		tb.add(time.Time(v.Since).UTC().Format("2006-01-02 15:04:05 UTC"), string(v.State), alert.Span(lasted), string(v.Rule), shown(v.Title), toldOf(v.Messages))
	}
	t.table("", tb)
	failing := &table{columns: []column{{title: "RECEIVER"}, {title: "MESSAGE"}, {title: "STATE"}, {title: "TRIES", align: right}, {title: "REASON"}}}
	for i := range views {
		for _, m := range views[i].Messages {
			if m.Error != "" && m.State != "delivered" {
				failing.add(m.Receiver, m.ID, m.State, fmt.Sprint(m.Tries), shown(m.Error))
			}
		}
	}
	if len(failing.rows) > 0 {
		t.print("\nMessages that could not be delivered:\n")
		t.table("", failing)
	}
}

// toldOf counts messages: "4 of 5", "nobody".
func toldOf(messages []deliveryView) string {
	delivered := 0
	for _, m := range messages {
		if m.State == "delivered" {
			delivered++
		}
	}
	switch {
	case len(messages) == 0:
		return "nobody"
	case delivered == len(messages):
		return "all"
	default:
		return fmt.Sprintf("%d of %d", delivered, len(messages))
	}
}

type alertsTestCommand struct {
	Receiver string `arg:"" help:"Its name in the configuration file."`
	place    `group:"Where the gateway keeps its data:"`
}

// Run sends a test message. It goes straight to the receiver: nothing is queued, nothing is tried again.
func (c *alertsTestCommand) Run(ctx context.Context, t *terminal) error {
	local, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }()
	settings := local.File.Spec.Alerts
	to, declared := settings.Receiver(c.Receiver)
	if !declared {
		names := make([]string, len(settings.Receivers))
		for i := range settings.Receivers {
			names[i] = settings.Receivers[i].Name
		}
		hint := "declare it under alerts.receivers, and give the file with --config"
		if len(names) > 0 {
			hint = "the receivers are " + strings.Join(names, ", ")
		}
		return &failure{message: fmt.Sprintf("there is no receiver %q", c.Receiver), hint: hint}
	}
	message := alert.TestMessage(account.GenerateID("test_"), time.Now())
	if err := notify.NewSender(notify.Options{UserAgent: programName + "/" + t.version}).Send(ctx, to, &message); err != nil {
		return &failure{message: fmt.Sprintf("the %s %q was not reached: %s", to.Kind(), to.Name, err), cause: err}
	}
	t.print("The %s %q (%s) took the message %s.\n", to.Kind(), to.Name, placeOf(to), message.ID)
	return nil
}

// placeOf is where a receiver is, without what may be secret.
func placeOf(r *alert.Receiver) string {
	var address string
	switch {
	case r.Webhook != nil:
		address = r.Webhook.URL.Reveal()
	case r.Slack != nil:
		address = r.Slack.URL.Reveal()
	default:
		return strings.Join(r.Email.To, ", ")
	}
	u, err := url.Parse(address)
	if err != nil {
		return "?"
	}
	return u.Host
}
