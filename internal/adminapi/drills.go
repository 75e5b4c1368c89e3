package adminapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/control"
	"shareai/internal/fault"
)

// DrillState is what a drill does at a moment.
type DrillState string

// The states of a drill.
const (
	DrillRunning DrillState = "running"
	DrillEnded   DrillState = "ended"   // by itself
	DrillStopped DrillState = "stopped" // by somebody, before its end
)

// Drill is a drill as the API shows it.
type Drill struct {
	ID           string     `json:"id" example:"drill_k3w7q2m5x4c6a2zt7d5b"`
	Organization string     `json:"organization"`
	Project      string     `json:"project"`
	KeyID        string     `json:"key_id,omitempty" doc:"The one API key that it is about; missing: every key of the project."`
	Provider     string     `json:"provider,omitempty" doc:"What fails: this provider,"`
	Deployment   string     `json:"deployment,omitempty" doc:"or this deployment, PROVIDER/MODEL,"`
	Region       string     `json:"region,omitempty" doc:"or every provider of this region."`
	Fault        string     `json:"fault" enum:"blackhole,5xx,503,429,slow_first_token,cut,bad_chunk" doc:"How it fails."`
	Share        float64    `json:"share" doc:"The share of the attempts that fail, above 0 and at most 1."`
	State        DrillState `json:"state" enum:"running,ended,stopped"`
	Starts       time.Time  `json:"starts"`
	Ends         time.Time  `json:"ends" doc:"When it ends by itself."`
	Stopped      *time.Time `json:"stopped,omitempty" doc:"When it was stopped before its end."`
	By           string     `json:"by,omitempty" doc:"Who started it."`
}

// ViewDrill is a drill as it is at a moment.
func ViewDrill(d *catalog.Drill, now time.Time) Drill {
	v := Drill{
		ID: d.ID, Organization: d.Organization, Project: d.Project, KeyID: d.KeyID,
		Provider: d.Provider, Deployment: d.Deployment, Region: d.Region,
		Fault: string(d.Fault), Share: d.Share, State: DrillRunning, Starts: d.Starts, Ends: d.Ends, By: d.By,
	}
	switch {
	case !d.Stopped.IsZero():
		v.State, v.Stopped = DrillStopped, &d.Stopped
	case d.OverAt(now):
		v.State = DrillEnded
	}
	return v
}

// DrillStart is the request for a drill.
type DrillStart struct {
	Project    string  `json:"project,omitempty" maxLength:"100" doc:"The project that is rehearsed. Missing: that of the API key; a user names one."`
	Key        string  `json:"key,omitempty" maxLength:"100" doc:"Name or id of one API key of the project; missing: every key of it."`
	Provider   string  `json:"provider,omitempty" maxLength:"100" doc:"What fails: this provider. Name one of provider, deployment and region."`
	Deployment string  `json:"deployment,omitempty" maxLength:"400" doc:"What fails: this deployment, PROVIDER/MODEL."`
	Region     string  `json:"region,omitempty" maxLength:"100" doc:"What fails: every provider of this region."`
	Fault      string  `json:"fault" enum:"blackhole,5xx,503,429,slow_first_token,cut,bad_chunk" doc:"How it fails: never an answer; 500; 503; 429 with Retry-After; a stream that begins and says nothing; an answer that breaks off half-way; an answer that can not be read."`
	Share      float64 `json:"share,omitempty" exclusiveMinimum:"0" maximum:"1" doc:"The share of the attempts that fail. Missing: 1, all of them."`
	For        string  `json:"for,omitempty" maxLength:"20" example:"10m" doc:"How long it runs, at most 24h: a number with d, h, m or s. Missing: 10m."`
}

// DrillList is a list of drills.
type DrillList struct {
	Drills []Drill `json:"drills" nullable:"false" doc:"The one that started last first."`
}

type (
	drillAnswer struct{ Body Drill }
	drillsAsked struct {
		Project string `query:"project" maxLength:"100" doc:"Only drills of this project."`
		State   string `query:"state" enum:"running,all" default:"running" doc:"Which ones: those that run, or those that are over as well. These are kept for 30 days."`
	}
	drillsAnswer struct{ Body DrillList }
	drillStart   struct{ Body DrillStart }
	drillStop    struct {
		ID string `path:"id" maxLength:"100" doc:"The drill's id."`
	}
)

func (a *API) addDrills() {
	tags := []string{"Drills"}
	operation(a, huma.Operation{
		OperationID: "start-drill", Method: http.MethodPost, Path: "/api/v1/drills", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary:     "Start a drill",
		Description: "Makes a part of the providers fail for a project, or for one key of it, for a time. Everybody else is served as ever. It ends by itself.",
	}, account.WriteDrills, a.startDrill)
	operation(a, huma.Operation{
		OperationID: "list-drills", Method: http.MethodGet, Path: "/api/v1/drills", Tags: tags,
		Summary: "List drills", Description: "Lists drills, the one that started last first.",
	}, account.ReadDrills, a.listDrills)
	operation(a, huma.Operation{
		OperationID: "stop-drill", Method: http.MethodDelete, Path: "/api/v1/drills/{id}", Tags: tags,
		Summary:     "Stop a drill",
		Description: "Ends a drill before its time. One that is over stays as it is.",
	}, account.WriteDrills, a.stopDrill)
}

func (a *API) startDrill(ctx context.Context, caller *Caller, in *drillStart) (*drillAnswer, error) {
	project, err := caller.ProjectOf(in.Body.Project)
	if err != nil {
		return nil, err
	}
	request := control.DrillRequest{
		Organization: caller.Organization, Project: project, Key: in.Body.Key,
		Provider: in.Body.Provider, Deployment: in.Body.Deployment, Region: in.Body.Region,
		Fault: catalog.DrillFault(in.Body.Fault), Share: in.Body.Share,
		By: caller.By(),
	}
	if in.Body.For != "" {
		if request.For, err = catalog.ParseSpan(strings.TrimSpace(in.Body.For)); err != nil || request.For <= 0 {
			return nil, fault.New(fault.Invalid, "invalid_value", "The time that the drill runs has another form than 90s, 10m, 1h30m or 1d.").About("for")
		}
	}
	drill, err := a.Drills.StartDrill(ctx, request)
	return a.changed(ctx, &drill, err)
}

func (a *API) listDrills(ctx context.Context, caller *Caller, in *drillsAsked) (*drillsAnswer, error) {
	now := time.Now()
	filter, err := drillsOf(caller, in.Project)
	if err != nil {
		return nil, err
	}
	if in.State == "running" {
		filter.RunningAt = now
	}
	drills, err := a.Drills.ListDrills(ctx, filter)
	if err != nil {
		return nil, err
	}
	out := &drillsAnswer{Body: DrillList{Drills: make([]Drill, len(drills))}}
	for i := range drills {
		out.Body.Drills[i] = ViewDrill(&drills[i], now)
	}
	return out, nil
}

func (a *API) stopDrill(ctx context.Context, caller *Caller, in *drillStop) (*drillAnswer, error) {
	among, err := drillsOf(caller, "")
	if err != nil {
		return nil, err
	}
	drill, err := a.Drills.StopDrill(ctx, in.ID, among)
	return a.changed(ctx, &drill, err)
}

// drillsOf are those that a caller may know of.
func drillsOf(caller *Caller, named string) (control.DrillFilter, error) {
	project, err := caller.ProjectsOf(named)
	return control.DrillFilter{Organization: caller.Organization, Project: project}, err
}

// changed answers with a drill that was changed, once this replica goes by it: the caller's next request
// may follow at once. The other replicas know within two seconds.
func (a *API) changed(ctx context.Context, d *catalog.Drill, err error) (*drillAnswer, error) {
	if err != nil {
		return nil, err
	}
	if err := a.Snapshots.Refresh(ctx); err != nil {
		a.Log.WarnContext(ctx, "a drill is stored and not in force here yet", "drill", d.ID, "error", err)
	}
	return &drillAnswer{Body: ViewDrill(d, time.Now())}, nil
}
