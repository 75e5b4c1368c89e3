package app

import (
	"cmp"
	"context"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/cluster"
	"shareai/internal/config"
	"shareai/internal/control"
	"shareai/internal/identity"
	"shareai/internal/store"
)

// identityOptions are what the use cases of people go by, of the configuration file.
func identityOptions(boot config.Boot, rows *store.Store, uses *control.Control) identity.Options {
	accounts := boot.Accounts
	o := identity.Options{
		Users: rows, Sessions: rows, Organizations: uses, SignUp: identity.SignUp(accounts.SignUp),
		PublicURL: cmp.Or(accounts.URL, boot.PublicURL), Idle: accounts.Idle, Absolute: accounts.Lifetime,
	}
	for _, s := range accounts.SSO {
		o.Providers = append(o.Providers, identity.Provider{
			Name: s.Name, Label: s.Label, Issuer: s.Issuer, ClientID: s.ClientID, ClientSecret: s.ClientSecret, Domains: s.Domains,
			Organization: s.Organization, Role: s.Role, TrustEmails: s.TrustEmails,
		})
	}
	return o
}

// startPeople lets people in. mailer may be nil.
func (i *Instance) startPeople(boot config.Boot, rows *store.Store, uses *control.Control, meters cluster.Meters, mailer identity.Mailer) {
	o := identityOptions(boot, rows, uses)
	o.Meters, o.Mailer, o.Logger = meters, mailer, i.log
	o.Actor = audit.Actor{Kind: audit.User, Name: "gateway", From: machine()}
	i.people = identity.New(o)
	i.background("e-mails of accounts", i.people.Run)
}

// SetupLink makes the link with which the first owner sets the installation up; earlier ones end. It is empty when there
// are users already.
func (i *Instance) SetupLink(ctx context.Context) (account.Secret, error) {
	token, err := i.people.SetupLink(ctx)
	if err != nil || token.Empty() {
		return account.Secret{}, err
	}
	link := i.people.Link("setup", token).Reveal()
	if i.people.PublicURL() == "" {
		link = "http://" + nearby(cmp.Or(i.Addresses().Admin, i.Addresses().API)) + link
	}
	return account.NewSecret(link), nil
}
