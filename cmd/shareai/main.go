// Shareai is the whole product in one program: the gateway, its demo, and the commands around them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"shareai/internal/cli"
)

// version is set when a release is built: -ldflags "-X main.version=1.2.3".
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the command in order; a second one finds the default again and kills.
	context.AfterFunc(ctx, stop)
	code := cli.Run(ctx, cli.Environment{
		Args: os.Args, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.LookupEnv, Version: version,
	})
	stop()
	os.Exit(code)
}
