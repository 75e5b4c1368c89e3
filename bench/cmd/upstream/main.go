// Command upstream is the mock OpenAI-compatible API that stands behind every
// target of the benchmarks; see package mock for its addresses and settings.
package main

import (
	"flag"
	"log"

	"shareai/bench/internal/mock"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("upstream: ")
	addr := flag.String("addr", "127.0.0.1:9001", "loopback address to listen on")
	flag.Parse()
	server, err := mock.Listen(*addr, mock.Behaviour{Chunks: 100})
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %s", server.URL())
	log.Fatal(server.Serve())
}
