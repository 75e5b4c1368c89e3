// Command tinygguf writes the two models of package gguf into a folder, for an engine that is started by hand:
//
//	go run ./test/engine/tinygguf DIR    # writes DIR/tiny-chat.gguf and DIR/tiny-embed.gguf
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"shareai/test/engine/gguf"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: tinygguf DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "tinygguf:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	models := map[string][]byte{
		"tiny-chat.gguf":  gguf.Chat(1),
		"tiny-embed.gguf": gguf.Embed(1),
	}
	for name, content := range models {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
