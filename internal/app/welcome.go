package app

import (
	"context"
	"fmt"
	"net"
	"strings"

	"shareai/internal/config"
	"shareai/internal/snapshot"
	"shareai/internal/telemetry"
)

// welcome tells somebody who started without any configuration what to do next: while there is no user, with the link
// that makes the first one. A log that is read by machines stays free of it.
func (i *Instance) welcome(ctx context.Context, file *config.File, boot config.Boot, view *snapshot.Snapshot) {
	if file.Path != "" || telemetry.Format(i.settings.Log.Format) == telemetry.JSON {
		return
	}
	if len(view.Names()) == 0 {
		_, _ = fmt.Fprint(i.settings.Stderr, i.welcomeText(boot))
	}
	link, err := i.SetupLink(ctx)
	if err != nil {
		i.log.Error("the link for setting up could not be made; start again, or use `shareai users create`", "error", err)
	} else if !link.Empty() {
		_, _ = fmt.Fprintf(i.settings.Stderr, "\nNobody can sign in to the console yet. Make yourself the first owner here, once:\n\n  %s\n\n", link.Reveal())
	}
}

func (i *Instance) welcomeText(boot config.Boot) string {
	program, where := i.settings.Program, ""
	if i.settings.DataDir != "" {
		where = " --data-dir " + shellWord(boot.DataDir)
	}
	store := "SQLite in " + boot.DataDir
	if !boot.Database.Empty() {
		store = "PostgreSQL"
		where += ` --database "$SHAREAI_DATABASE"`
	}
	return fmt.Sprintf(`
ShareAI is running: http://%s/v1 (data: %s)
It has no model to offer yet. Two steps to a first answer:

1. Create an API key. It is shown once.

     %s keys create --name first%s

2. Stop this gateway, write a provider and a model into shareai.yaml, and start it with that file:

     providers:
       - name: openai
         dialect: openai
         base_url: https://api.openai.com/v1
         keys: [{name: main, secret: "${OPENAI_API_KEY}"}]
     models:
       - name: gpt-4o-mini
         deployments:
           - {provider: openai, model: gpt-4o-mini, price: {input: 0.15, output: 0.60}}

     %s serve --config shareai.yaml%s

To try everything without an account: %s demo

`, nearby(i.Addresses().API), store, program, where, program, where, program)
}

// nearby is an address as it is reached from this machine.
func nearby(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// shellWord makes one word of a POSIX shell.
func shellWord(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+=,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
