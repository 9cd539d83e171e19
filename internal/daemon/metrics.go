package daemon

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are those of a program that pushes. All methods of the fields may be called concurrently.
type Metrics struct {
	registry *prometheus.Registry

	PushedBytes, PushedBlobs, PushedRevisions prometheus.Counter
	FreedBytes                                prometheus.Counter
	Failures                                  *prometheus.CounterVec // by "kind"
	Queued                                    prometheus.Gauge       // repositories that wait to be looked at
	Unfinished                                prometheus.Gauge       // repositories into which somebody downloads
	LastSuccess                               prometheus.Gauge       // in seconds since 1970
}

// Watched is what is watched at the moment that somebody asks.
type Watched struct {
	Folders int
	Polling bool
}

// NewMetrics makes them all, at zero. Their names begin with the prefix. watched is asked whenever they are read.
func NewMetrics(prefix, version string, watched func() Watched) *Metrics {
	r := prometheus.NewRegistry()
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
		r.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + name, Help: help})
		r.MustRegister(g)
		return g
	}
	ask := func(name, help string, f func(Watched) float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name, Help: help}, func() float64 { return f(watched()) }))
	}
	m := &Metrics{
		registry:        r,
		PushedBytes:     counter("pushed_bytes_total", "Bytes of blobs that were uploaded."),
		PushedBlobs:     counter("pushed_blobs_total", "Blobs that were uploaded."),
		PushedRevisions: counter("pushed_revisions_total", "Manifests that were written."),
		FreedBytes:      counter("freed_bytes_total", "Bytes that the disk got back by keeping the budget."),
		Failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "failures_total", Help: "What could not be done, by kind: unreachable, denied, damaged, disk, other.",
		}, []string{"kind"}),
		Queued:      gauge("queued_repositories", "Repositories that wait to be looked at."),
		Unfinished:  gauge("unfinished_repositories", "Repositories into which somebody downloads."),
		LastSuccess: gauge("last_success_timestamp_seconds", "When a repository was last found to be in the bucket, in seconds since 1970."),
	}
	r.MustRegister(m.Failures, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector())
	ask("watched_folders", "Folders whose changes are noticed.", func(w Watched) float64 { return float64(w.Folders) })
	ask("polling", "1 if the system does not tell of all changes, so that folders are compared instead.", func(w Watched) float64 {
		if w.Polling {
			return 1
		}
		return 0
	})
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	r.MustRegister(info)
	return m
}

// Handler serves the metrics in Prometheus' text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
