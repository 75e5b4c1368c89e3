package e2e

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// freshDatabase makes an empty database on the test server and returns its URL.
func freshDatabase(t *testing.T, server string) string {
	t.Helper()
	name := "e2e_" + strings.ToLower(strings.NewReplacer("/", "_").Replace(t.Name()))
	conn, err := pgx.Connect(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	for _, statement := range []string{"DROP DATABASE IF EXISTS %s WITH (FORCE)", "CREATE DATABASE %s"} {
		if _, err := conn.Exec(t.Context(), fmt.Sprintf(statement, pgx.Identifier{name}.Sanitize())); err != nil {
			t.Fatal(err)
		}
	}
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}
