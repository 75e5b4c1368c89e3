package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/control"
)

type keysCommands struct {
	Create keysCreateCommand `cmd:"" help:"Create an API key and show its secret, once."`
	List   keysListCommand   `cmd:"" help:"List API keys; their secrets are not kept."`
	Revoke keysRevokeCommand `cmd:"" help:"End an API key at once and for good."`
}

type keysCreateCommand struct {
	Name         string   `required:"" placeholder:"NAME" help:"Name of the key, unique in its project: a-z, 0-9, '.', '_' and '-'."`
	Organization string   `placeholder:"NAME" help:"Organization that pays. Default: default."`
	Project      string   `placeholder:"NAME" help:"Project of the organization. Default: default."`
	Models       []string `placeholder:"NAME" help:"Models and routes that the key may use; * and ? are wildcards. Default: all."`
	Expires      moment   `placeholder:"WHEN" help:"When the key ends: 2027-12-31, 720h or 90d. Default: never."`
	Scope        []string `placeholder:"SCOPE" help:"What the key may do: inference (call /v1), drills (start and stop drills of its project), read (see what the organization has), admin (administer the organization). Default: inference."`
	Pin          pin      `placeholder:"PROVIDER[/MODEL]" help:"Lock the key to one provider, or to one model id there."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Help is the long help.
func (keysCreateCommand) Help() string {
	return `A running gateway takes the key within two seconds. The organization and the project are created when they
are missing.

    shareai keys create --name laptop
    shareai keys create --name ci --organization acme --project app --models "gpt-*" --expires 90d
    shareai keys create --name rehearsal --organization acme --project app --scope drills`
}

// pin is PROVIDER or PROVIDER/MODEL.
type pin account.Pin

// UnmarshalText reads the flag. A model id may contain slashes itself.
func (p *pin) UnmarshalText(text []byte) error {
	provider, model, slash := strings.Cut(string(text), "/")
	if slash && (provider == "" || model == "") {
		return fmt.Errorf("%q has another form than PROVIDER or PROVIDER/MODEL", string(text))
	}
	*p = pin{Provider: provider, Model: model}
	return nil
}

// keyView is a key as JSON.
type keyView struct {
	ID           string     `json:"id"`
	Name         string     `json:"name"`
	Organization string     `json:"organization"`
	Project      string     `json:"project"`
	State        string     `json:"state"`
	Hint         string     `json:"hint"`
	Models       []string   `json:"models"` // empty: all
	Pin          string     `json:"pin,omitempty"`
	Scopes       []string   `json:"scopes"`
	Created      *time.Time `json:"created,omitempty"`
	Expires      *time.Time `json:"expires,omitempty"`
	Revoked      *time.Time `json:"revoked,omitempty"`
	ManagedBy    string     `json:"managed_by"` // file or database
	Secret       string     `json:"secret,omitempty"`
}

func viewKey(k *account.APIKey, now time.Time) keyView {
	v := keyView{
		ID: k.ID, Name: k.Name, Organization: k.Organization, Project: k.Project,
		State: string(k.StateAt(now)), Hint: k.Hint, Models: append([]string{}, k.Models...),
		Created: stamp(k.CreatedAt), Expires: stamp(k.Expires), Revoked: stamp(k.RevokedAt),
		ManagedBy: string(k.Origin),
	}
	for _, scope := range account.Scopes {
		if k.May(scope) {
			v.Scopes = append(v.Scopes, string(scope))
		}
	}
	if k.Pin.Set() {
		v.Pin = strings.TrimSuffix(k.Pin.Provider+"/"+k.Pin.Model, "/")
	}
	return v
}

func stamp(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// Run creates a key.
func (c *keysCreateCommand) Run(ctx context.Context, t *terminal) error {
	local, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }()
	now := time.Now()
	created, err := local.Control.CreateKey(ctx, control.KeyRequest{
		Name: c.Name, Organization: c.Organization, Project: c.Project,
		Models: c.Models, Pin: account.Pin(c.Pin), Scopes: scopes(c.Scope), Expires: c.Expires.after(now), Create: true,
	})
	if err != nil {
		return err
	}
	v := viewKey(&created.Key, now)
	if c.JSON {
		v.Secret = created.Secret.Reveal()
		return t.json(v)
	}
	t.print("Key %s of %s/%s is ready (%s):\n\n  %s\n\n", v.Name, v.Organization, v.Project, v.ID, t.styled(bold, created.Secret.Reveal()))
	t.print("Keep it now: it is not stored and can not be shown again.\n")
	t.print("It may use %s %s.\n", models(v), expiry(v))
	if len(c.Scope) > 0 {
		t.print("Its scopes: %s.\n", strings.Join(v.Scopes, ", "))
	}
	if v.Pin != "" {
		t.print("It is pinned to %s.\n", v.Pin)
	}
	return nil
}

func scopes(words []string) []account.Scope {
	list := make([]account.Scope, len(words))
	for i, w := range words {
		list[i] = account.Scope(w)
	}
	return list
}

func models(v keyView) string {
	if len(v.Models) == 0 {
		return "every model"
	}
	return strings.Join(v.Models, ", ")
}

func expiry(v keyView) string {
	if v.Expires == nil {
		return "and does not expire"
	}
	return "until " + v.Expires.Format("2006-01-02 15:04 UTC")
}

type keysListCommand struct {
	Organization string `placeholder:"NAME" help:"Only keys of this organization."`
	Project      string `placeholder:"NAME" help:"Only keys of projects with this name."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Run lists the keys.
func (c *keysListCommand) Run(ctx context.Context, t *terminal) error {
	local, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }()
	keys, err := local.Control.ListKeys(ctx, control.KeyFilter{Organization: c.Organization, Project: c.Project})
	if err != nil {
		return err
	}
	now := time.Now()
	views := make([]keyView, len(keys))
	for i := range keys {
		views[i] = viewKey(&keys[i], now)
	}
	if c.JSON {
		return t.json(map[string][]keyView{"keys": views})
	}
	if len(views) == 0 {
		t.print("No keys. Create one with: %s keys create --name NAME\n", t.program)
		return nil
	}
	tb := &table{columns: []column{
		{title: "ID"}, {title: "NAME"}, {title: "PROJECT"}, {title: "KEY"}, {title: "STATE"}, {title: "EXPIRES"}, {title: "MODELS"}, {title: "SCOPES"}, {title: "MANAGED BY"},
	}}
	for _, v := range views {
		tb.add(v.ID, v.Name, v.Organization+"/"+v.Project, v.Hint, v.State, date(v.Expires), allowed(v), strings.Join(v.Scopes, ","), v.ManagedBy)
	}
	t.table("", tb)
	return nil
}

func date(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.Format("2006-01-02")
}

// allowed is what a key may use, in one cell.
func allowed(v keyView) string {
	text := "all"
	if len(v.Models) > 0 {
		text = strings.Join(v.Models, ",")
	}
	if v.Pin != "" {
		text += " at " + v.Pin
	}
	return text
}

type keysRevokeCommand struct {
	Key string `arg:"" name:"key" help:"ID (key_…), name, organization/project/name, or the key itself, for one that has leaked."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Run revokes a key.
func (c *keysRevokeCommand) Run(ctx context.Context, t *terminal) error {
	local, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }()
	keys, err := local.Control.ListKeys(ctx, control.KeyFilter{})
	if err != nil {
		return err
	}
	ref, err := keyReference(keys, c.Key)
	if err != nil {
		return err
	}
	key, err := local.Control.RevokeKey(ctx, ref)
	if err != nil {
		return err
	}
	v := viewKey(&key, time.Now())
	if c.JSON {
		return t.json(v)
	}
	t.print("Key %s of %s/%s (%s) is revoked. A running gateway refuses it within two seconds.\n", v.Name, v.Organization, v.Project, v.ID)
	return nil
}

// keyReference resolves a bare name, which only one key in force may have. Everything else is a reference
// already, or nothing that exists.
func keyReference(keys []account.APIKey, ref string) (string, error) {
	var found []string
	id := ""
	for _, k := range keys {
		if k.Name == ref && k.RevokedAt.IsZero() {
			id = k.ID
			found = append(found, k.ID+" ("+k.Organization+"/"+k.Project+"/"+k.Name+")")
		}
	}
	switch len(found) {
	case 0:
		return ref, nil
	case 1:
		return id, nil
	default:
		return "", &failure{message: fmt.Sprintf("%d keys are named %q", len(found), ref), hint: "say which: " + strings.Join(found, ", ")}
	}
}
