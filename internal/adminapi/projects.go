package adminapi

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"shareai/internal/account"
	"shareai/internal/fault"
)

// Tenants are the use cases of organizations and projects.
type Tenants interface {
	CreateProject(ctx context.Context, p account.Project) error
	UpdateProject(ctx context.Context, organization, name string, edit func(*account.Project)) (account.Project, error)
	UpdateOrganization(ctx context.Context, name string, edit func(*account.Organization)) (account.Organization, error)
}

// Organization is the one in which the caller acts.
type Organization struct {
	Name      string   `json:"name"`
	Operator  bool     `json:"operator" doc:"It operates the installation."`
	Limits    Limits   `json:"limits"`
	Budgets   []Budget `json:"budgets" nullable:"false"`
	ManagedBy string   `json:"managed_by" enum:"file,database" doc:"What the file declares can only be changed there."`
}

// Project groups API keys.
type Project struct {
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels" nullable:"false"`
	Limits    Limits            `json:"limits"`
	Budgets   []Budget          `json:"budgets" nullable:"false"`
	ManagedBy string            `json:"managed_by" enum:"file,database" doc:"What the file declares can only be changed there."`
}

// ProjectList is a page of projects.
type ProjectList struct {
	Projects []Project `json:"projects" nullable:"false" doc:"By name."`
	NextCursor
}

// ProjectStart is a new project.
type ProjectStart struct {
	Name    string            `json:"name" maxLength:"63" doc:"1 to 63 characters of a-z, 0-9, '.', '_' and '-'. It stays."`
	Labels  map[string]string `json:"labels,omitempty"`
	Limits  Limits            `json:"limits,omitempty"`
	Budgets []Budget          `json:"budgets,omitempty" nullable:"false" maxItems:"20"`
}

// BoundsChange changes limits and budgets. What is missing stays.
type BoundsChange struct {
	Limits  *Limits   `json:"limits,omitempty"`
	Budgets *[]Budget `json:"budgets,omitempty" nullable:"false" maxItems:"20"`
}

// ProjectChange changes a project. What is missing stays.
type ProjectChange struct {
	Labels *map[string]string `json:"labels,omitempty"`
	BoundsChange
}

type (
	organizationAnswer struct{ Body Organization }
	organizationInput  struct{ Body BoundsChange }
	projectsAnswer     struct{ Body ProjectList }
	projectAnswer      struct{ Body Project }
	projectInput       struct{ Body ProjectStart }
	projectPatching    struct {
		Name string `path:"name" maxLength:"63"`
		Body ProjectChange
	}
)

func (a *API) addProjects() {
	tags := []string{"Organization and projects"}
	operation(a, huma.Operation{
		OperationID: "get-organization", Method: http.MethodGet, Path: "/api/v1/organization", Tags: tags, Summary: "Show the organization",
	}, account.ReadOrganization, a.getOrganization)
	operation(a, huma.Operation{
		OperationID: "update-organization", Method: http.MethodPatch, Path: "/api/v1/organization", Tags: tags, Summary: "Change the organization's limits and budgets",
	}, account.WriteOrganization, a.updateOrganization)
	operation(a, huma.Operation{
		OperationID: "list-projects", Method: http.MethodGet, Path: "/api/v1/projects", Tags: tags, Summary: "List projects",
	}, account.ReadProjects, a.listProjects)
	operation(a, huma.Operation{
		OperationID: "create-project", Method: http.MethodPost, Path: "/api/v1/projects", Tags: tags, Summary: "Create a project", DefaultStatus: http.StatusCreated,
	}, account.WriteProjects, a.createProject)
	operation(a, huma.Operation{
		OperationID: "update-project", Method: http.MethodPatch, Path: "/api/v1/projects/{name}", Tags: tags, Summary: "Change a project", Description: "Its labels, limits and budgets.",
	}, account.WriteProjects, a.updateProject)
}

func viewOrganization(o *account.Organization, operator string) Organization {
	return Organization{Name: o.Name, Operator: o.Name == operator, Limits: Limits(o.Limits), Budgets: viewBudgets(o.Budgets), ManagedBy: string(o.Origin)}
}

func viewProject(p *account.Project) Project {
	v := Project{Name: p.Name, Labels: map[string]string{}, Limits: Limits(p.Limits), Budgets: viewBudgets(p.Budgets), ManagedBy: string(p.Origin)}
	for label, value := range p.Labels {
		v.Labels[label] = value
	}
	return v
}

func (a *API) getOrganization(_ context.Context, caller *Caller, _ *nothing) (*organizationAnswer, error) {
	all := a.Snapshots.Current().Spec().Organizations
	at := slices.IndexFunc(all, func(o account.Organization) bool { return o.Name == caller.Organization })
	if at < 0 {
		return nil, fault.New(fault.NotFound, "organization_not_found", "The organization "+caller.Organization+" is not declared any more.")
	}
	return &organizationAnswer{Body: viewOrganization(&all[at], a.operator())}, nil
}

// edited reads a change of limits and budgets.
func (c *BoundsChange) edited() (func(*account.Limits, *[]account.Budget), error) {
	var bounds []account.Budget
	if c.Budgets != nil {
		var err error
		if bounds, err = budgets(*c.Budgets); err != nil {
			return nil, err
		}
	}
	return func(l *account.Limits, b *[]account.Budget) {
		if c.Limits != nil {
			*l = account.Limits(*c.Limits)
		}
		if c.Budgets != nil {
			*b = bounds
		}
	}, nil
}

func (a *API) updateOrganization(ctx context.Context, caller *Caller, in *organizationInput) (*organizationAnswer, error) {
	edit, err := in.Body.edited()
	if err != nil {
		return nil, err
	}
	o, err := a.Tenants.UpdateOrganization(ctx, caller.Organization, func(o *account.Organization) { edit(&o.Limits, &o.Budgets) })
	if err != nil {
		return nil, err
	}
	a.refresh(ctx)
	return &organizationAnswer{Body: viewOrganization(&o, a.operator())}, nil
}

func (a *API) listProjects(_ context.Context, caller *Caller, in *Page) (*projectsAnswer, error) {
	var all []account.Project
	seen := map[string]bool{}
	for _, p := range a.Snapshots.Current().Spec().Projects {
		if p.Organization == caller.Organization && !seen[p.Name] { // the file's first: they are in force
			all = append(all, p)
			seen[p.Name] = true
		}
	}
	projects, next, err := pageOf(all, *in, func(p *account.Project) string { return p.Name })
	out := &projectsAnswer{Body: ProjectList{Projects: make([]Project, len(projects)), NextCursor: next}}
	for i := range projects {
		out.Body.Projects[i] = viewProject(&projects[i])
	}
	return out, err
}

func (a *API) createProject(ctx context.Context, caller *Caller, in *projectInput) (*projectAnswer, error) {
	bounds, err := budgets(in.Body.Budgets)
	if err != nil {
		return nil, err
	}
	p := account.Project{
		Organization: caller.Organization, Name: in.Body.Name, Labels: in.Body.Labels, Limits: account.Limits(in.Body.Limits), Budgets: bounds, Origin: account.FromDatabase,
	}
	if err := a.Tenants.CreateProject(ctx, p); err != nil {
		return nil, err
	}
	a.refresh(ctx)
	return &projectAnswer{Body: viewProject(&p)}, nil
}

func (a *API) updateProject(ctx context.Context, caller *Caller, in *projectPatching) (*projectAnswer, error) {
	edit, err := in.Body.edited()
	if err != nil {
		return nil, err
	}
	p, err := a.Tenants.UpdateProject(ctx, caller.Organization, in.Name, func(p *account.Project) {
		if in.Body.Labels != nil {
			p.Labels = *in.Body.Labels
		}
		edit(&p.Limits, &p.Budgets)
	})
	if err != nil {
		return nil, err
	}
	a.refresh(ctx)
	return &projectAnswer{Body: viewProject(&p)}, nil
}
