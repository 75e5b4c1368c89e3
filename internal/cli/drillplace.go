package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"shareai/internal/adminapi"
	"shareai/internal/app"
	"shareai/internal/catalog"
	"shareai/internal/control"
)

// localDrills are those in the gateway's data, all of them.
type localDrills struct {
	local *app.Local
	place *place
}

func (l *localDrills) start(ctx context.Context, r control.DrillRequest) (adminapi.Drill, error) {
	return viewDrill(l.local.Control.StartDrill(ctx, r))
}

func (l *localDrills) stop(ctx context.Context, id string) (adminapi.Drill, error) {
	return viewDrill(l.local.Control.StopDrill(ctx, id, control.DrillFilter{}))
}

func viewDrill(d catalog.Drill, err error) (adminapi.Drill, error) {
	return adminapi.ViewDrill(&d, time.Now()), err
}

func (l *localDrills) list(ctx context.Context, f control.DrillFilter) ([]adminapi.Drill, error) {
	found, err := l.local.Control.ListDrills(ctx, f)
	views := make([]adminapi.Drill, len(found))
	for i := range found {
		views[i] = adminapi.ViewDrill(&found[i], time.Now())
	}
	return views, err
}

func (l *localDrills) keys(ctx context.Context) map[string]string {
	names, err := keyNames(ctx, l.local.Control)
	if err != nil {
		return nil // ids do as well
	}
	return names
}

func (l *localDrills) flags() string { return placeFlags(l.place) }
func (l *localDrills) close()        { _ = l.local.Close() }

// remoteDrills are those of the project of an API key, by the API of a gateway.
type remoteDrills struct {
	gateway, key string
	client       *http.Client
}

// patience is the longest wait for an answer of the API.
const patience = 30 * time.Second

func newRemoteDrills(gateway, key string) *remoteDrills {
	if !strings.Contains(gateway, "://") {
		gateway = "http://" + gateway
	}
	gateway = strings.TrimSuffix(strings.TrimSuffix(gateway, "/"), "/v1")
	return &remoteDrills{gateway: gateway, key: key, client: &http.Client{Timeout: patience}}
}

func (r *remoteDrills) start(ctx context.Context, d control.DrillRequest) (started adminapi.Drill, err error) {
	body, err := json.Marshal(adminapi.DrillStart{
		Key: d.Key, Provider: d.Provider, Deployment: d.Deployment, Region: d.Region,
		Fault: string(d.Fault), Share: d.Share, For: d.For.String(),
	})
	if err != nil {
		return started, err
	}
	return started, r.call(ctx, http.MethodPost, "", body, &started)
}

func (r *remoteDrills) list(ctx context.Context, f control.DrillFilter) ([]adminapi.Drill, error) {
	query := "?state=all"
	if !f.RunningAt.IsZero() {
		query = "?state=running"
	}
	var found adminapi.DrillList
	if err := r.call(ctx, http.MethodGet, query, nil, &found); err != nil {
		return nil, err
	}
	var own []adminapi.Drill
	for _, d := range found.Drills {
		if (f.Organization == "" || f.Organization == d.Organization) && (f.Project == "" || f.Project == d.Project) {
			own = append(own, d)
		}
	}
	return own, nil
}

func (r *remoteDrills) stop(ctx context.Context, id string) (stopped adminapi.Drill, err error) {
	return stopped, r.call(ctx, http.MethodDelete, "/"+url.PathEscape(id), nil, &stopped)
}

func (r *remoteDrills) keys(context.Context) map[string]string { return nil }
func (r *remoteDrills) flags() string                          { return " --gateway " + quote(r.gateway) }
func (r *remoteDrills) close()                                 { r.client.CloseIdleConnections() }

// maxAnswer bounds an answer of the API in bytes.
const maxAnswer = 4 << 20

// call sends a request below /api/v1/drills and reads the answer.
func (r *remoteDrills) call(ctx context.Context, method, path string, body []byte, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, r.gateway+"/api/v1/drills"+path, bytes.NewReader(body))
	if err != nil {
		return &failure{message: fmt.Sprintf("%q is no address of a gateway", r.gateway), code: exitUsage, cause: err}
	}
	request.Header.Set("Authorization", "Bearer "+r.key)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := r.client.Do(request)
	if err != nil {
		return &failure{message: "the gateway can not be asked: " + err.Error(), hint: "is it running, and is the address right?", cause: err}
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	if answer.StatusCode >= 400 {
		return refusedBy(r.gateway, answer.StatusCode, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return &failure{message: r.gateway + " does not answer like a ShareAI gateway", cause: err}
	}
	return nil
}

// refusedBy is an error of the API in its own words.
func refusedBy(gateway string, status int, text []byte) error {
	var said struct {
		Error struct{ Message, Code string }
	}
	if json.Unmarshal(text, &said) != nil || said.Error.Message == "" {
		return &failure{message: fmt.Sprintf("%s does not answer like a ShareAI gateway (status %d)", gateway, status)}
	}
	if said.Error.Code == "unknown_url" {
		return &failure{message: gateway + " has no API for administration", hint: "give the address of --admin-listen, if the gateway has one"}
	}
	return &failure{message: said.Error.Message}
}
