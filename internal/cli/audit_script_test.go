package cli_test

import (
	"database/sql"

	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// tamper is `tamper DATA-DIR STATEMENT…`: it changes the audit log as the owner of the database can.
func tamper(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: tamper DATA-DIR STATEMENT...")
	}
	db, err := sql.Open("sqlite", "file:"+ts.MkAbs(args[0])+"/shareai.db")
	ts.Check(err)
	defer func() { _ = db.Close() }()
	statements := append([]string{
		"DROP TRIGGER IF EXISTS audit_no_update", "DROP TRIGGER IF EXISTS audit_no_delete", "DROP TRIGGER IF EXISTS audit_no_replace",
	}, args[1:]...)
	for _, statement := range statements {
		_, err := db.Exec(statement)
		ts.Check(err)
	}
}
