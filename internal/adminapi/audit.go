package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/store"
)

// AuditLog is the log of administrative acts.
type AuditLog interface {
	// AuditPage returns entries, the newest first.
	AuditPage(ctx context.Context, q store.AuditQuery) ([]audit.Row, error)
	// EachAudit calls found for each entry since a moment, in order.
	EachAudit(ctx context.Context, since time.Time, found func(audit.Row) error) error
	// VerifyAudit walks along the log. An *audit.Broken says where it is not what was written.
	VerifyAudit(ctx context.Context, expected audit.Head) (audit.Head, error)
}

// AuditEntry is an administrative act.
type AuditEntry struct {
	Sequence int64     `json:"sequence" doc:"From 1, without a gap."`
	At       time.Time `json:"at"`
	Revision int64     `json:"revision,omitempty" doc:"Of the declarations, which the act made."`
	Kind     string    `json:"kind" doc:"Who: user (the command line), member, api_key, file, anonymous."`
	ID       string    `json:"id,omitempty"`
	Name     string    `json:"name,omitempty"`
	From     string    `json:"from"`
	Act      string    `json:"act"`
	Subject  string    `json:"subject,omitempty"`
	Before   any       `json:"before,omitempty"`
	After    any       `json:"after,omitempty"`
	Hash     string    `json:"hash"`
}

// AuditList is a page of the log.
type AuditList struct {
	Entries []AuditEntry `json:"entries" nullable:"false" doc:"The newest first."`
	NextCursor
}

// AuditCheck is what verifying the log found.
type AuditCheck struct {
	Unbroken bool   `json:"unbroken"`
	Entries  int64  `json:"entries" doc:"Up to which it is as it was written."`
	Hash     string `json:"hash,omitempty" doc:"Of the last of them. Note it elsewhere."`
	Sequence int64  `json:"broken_at,omitempty" doc:"The first entry that is not what was written."`
	Reason   string `json:"reason,omitempty"`
}

type (
	auditInput struct {
		Page
		From  time.Time `query:"from"`
		To    time.Time `query:"to"`
		Actor string    `query:"actor" maxLength:"100" doc:"The id of a user or an API key."`
		Act   string    `query:"act" maxLength:"60" doc:"Such as key.create; key. for all that begin so."`
	}
	auditAnswer      struct{ Body AuditList }
	auditCheckAnswer struct{ Body AuditCheck }
	auditExport      struct {
		Since time.Time `query:"since"`
	}
)

func (a *API) addAudit() {
	tags := []string{"Audit"}
	operation(a, huma.Operation{
		OperationID: "list-audit", Method: http.MethodGet, Path: "/api/v1/audit", Tags: tags, Summary: "List administrative acts", Description: "Of the whole installation.",
	}, account.ReadAudit, a.listAudit)
	operation(a, huma.Operation{
		OperationID: "verify-audit", Method: http.MethodPost, Path: "/api/v1/audit/verify", Tags: tags, Summary: "Check the audit log", Description: "Says whether an entry was changed, removed or inserted.",
	}, account.ReadAudit, a.verifyAudit)
	operation(a, huma.Operation{
		OperationID: "export-audit", Method: http.MethodGet, Path: "/api/v1/audit/export", Tags: tags, Summary: "Export the audit log", Description: "As JSON Lines, an entry each, with their hashes.",
	}, account.ReadAudit, a.exportAudit)
}

func viewEntry(r audit.Row) (AuditEntry, error) {
	e, err := r.Entry()
	v := AuditEntry{
		Sequence: e.Sequence, At: e.At, Revision: e.Revision, Kind: string(e.Who.Kind), ID: e.Who.ID, Name: e.Who.Name, From: e.From,
		Act: e.Act, Subject: e.Subject, Hash: r.Hash,
	}
	if e.Before != nil {
		v.Before = e.Before
	}
	if e.After != nil {
		v.After = e.After
	}
	return v, err
}

func (a *API) listAudit(ctx context.Context, _ *Caller, in *auditInput) (*auditAnswer, error) {
	after, err := in.after()
	if err != nil {
		return nil, err
	}
	q := store.AuditQuery{From: in.From, To: in.To, Actor: in.Actor, Act: in.Act, Limit: in.Limit + 1}
	if after != "" {
		if q.Before, err = strconv.ParseInt(after, 10, 64); err != nil {
			return nil, badCursor()
		}
	}
	rows, err := a.Audit.AuditPage(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &auditAnswer{Body: AuditList{Entries: []AuditEntry{}}}
	for _, r := range rows[:min(len(rows), in.Limit)] {
		v, err := viewEntry(r)
		if err != nil {
			return nil, err
		}
		out.Body.Entries = append(out.Body.Entries, v)
	}
	if len(rows) > in.Limit {
		out.Body.NextCursor = cursorAt(strconv.FormatInt(rows[in.Limit-1].Sequence, 10))
	}
	return out, nil
}

func (a *API) verifyAudit(ctx context.Context, _ *Caller, _ *nothing) (*auditCheckAnswer, error) {
	head, err := a.Audit.VerifyAudit(ctx, audit.Head{})
	var broken *audit.Broken
	if errors.As(err, &broken) {
		return &auditCheckAnswer{Body: AuditCheck{Entries: head.Entries, Hash: head.Hash, Sequence: broken.Sequence, Reason: broken.Reason}}, nil
	}
	return &auditCheckAnswer{Body: AuditCheck{Unbroken: true, Entries: head.Entries, Hash: head.Hash}}, err
}

// exportAudit sends the log as it is read: it has no bound.
func (a *API) exportAudit(ctx context.Context, _ *Caller, in *auditExport) (*huma.StreamResponse, error) {
	return &huma.StreamResponse{Body: func(w huma.Context) {
		w.SetHeader("Content-Type", "application/jsonl")
		w.SetHeader("Content-Disposition", `attachment; filename="audit.jsonl"`)
		err := a.Audit.EachAudit(ctx, in.Since, func(r audit.Row) error {
			_, err := w.BodyWriter().Write([]byte(r.Line()))
			return err
		})
		if err != nil { // the head is out: only a cut connection tells that this is not all
			a.Log.ErrorContext(ctx, "the audit log could not be exported", "error", err)
			panic(http.ErrAbortHandler)
		}
	}}, nil
}

// encodeJSON is a document as the API writes it.
func encodeJSON(v any) ([]byte, error) {
	var text bytes.Buffer
	err := json.NewEncoder(&text).Encode(v)
	return text.Bytes(), err
}
