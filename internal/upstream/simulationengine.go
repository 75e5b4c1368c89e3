package upstream

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"shareai/internal/catalog"
)

// SimulatedEngine is a simulated provider as a server of its own: what stands behind a node where no engine is at hand.
// It serves what the simulation does, and lists models at /v1/models.
func SimulatedEngine(p *catalog.Provider, models ...string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		type model struct {
			ID     string `json:"id"`
			Object string `json:"object"`
		}
		list := struct {
			Object string  `json:"object"`
			Data   []model `json:"data"`
		}{Object: "list"}
		for _, id := range models {
			list.Data = append(list.Data, model{id, "model"})
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(list)
	})
	mux.HandleFunc("POST /v1/", func(w http.ResponseWriter, r *http.Request) {
		answer, err := simulation{p}.RoundTrip(r)
		if err != nil {
			panic(http.ErrAbortHandler) // as a server that is not there
		}
		defer func() { _ = answer.Body.Close() }()
		for name, values := range answer.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.StatusCode)
		flusher := http.NewResponseController(w)
		for buffer := make([]byte, 4<<10); ; {
			n, err := answer.Body.Read(buffer)
			if _, gone := w.Write(buffer[:n]); gone != nil {
				return
			}
			_ = flusher.Flush()
			switch {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				panic(http.ErrAbortHandler)
			}
		}
	})
	return mux
}
