package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"
)

// Health is how the program is doing.
type Health struct {
	OK     bool   `json:"ok"`
	Reason string `json:"reason"` // why not
}

// requestTime is more than any request for metrics takes.
const requestTime = 10 * time.Second

// Listen opens the address for [Serve], so that one that is taken is an error at the start and not later.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", address)
}

// Serve answers /metrics and /healthz until ctx is done, which is no error. A program that is not healthy answers /healthz with 503 and says why.
func Serve(ctx context.Context, l net.Listener, m *Metrics, health func() Health) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		h := health()
		w.Header().Set("Content-Type", "application/json")
		if !h.OK {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(h) // whoever asked may have gone
	})
	server := &http.Server{Handler: mux, ReadTimeout: requestTime, ReadHeaderTimeout: requestTime, WriteTimeout: requestTime, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // nothing is worth waiting for
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
