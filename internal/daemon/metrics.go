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
	Queued                                    prometheus.Gauge       // repositories to be looked at now
	Waiting                                   prometheus.Gauge       // repositories to be looked at again later
	LastSuccess                               prometheus.Gauge       // in seconds since 1970
}

// Watched is what is watched at the moment that somebody asks.
type Watched struct {
	Folders  int
	Changing int // repositories in which something happened, and that are not quiet yet
	Polling  bool
	OK       bool // the health check would say so
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
			Name: prefix + "failures_total", Help: "What could not be done, by kind: unreachable, denied, configuration, damaged, disk, other.",
		}, []string{"kind"}),
		Queued:      gauge("queue_repos", "Repositories to be looked at as soon as the bucket answers and nothing else is done."),
		Waiting:     gauge("waiting_repos", "Repositories to be looked at again later: somebody downloads into them, or something failed."),
		LastSuccess: gauge("last_success_timestamp_seconds", "When a repository was last found to be in the bucket, in seconds since 1970."),
	}
	r.MustRegister(m.Failures, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector())
	ask("pending_repos", "Repositories in which something happened, and that have not been quiet for long enough.", func(w Watched) float64 { return float64(w.Changing) })
	ask("folders_watched", "Folders whose changes are noticed.", func(w Watched) float64 { return float64(w.Folders) })
	ask("polling", "1 if the system does not tell of all changes, so that folders are compared instead.", func(w Watched) float64 { return flag(w.Polling) })
	ask("up", "1 if /healthz says that all is well.", func(w Watched) float64 { return flag(w.OK) })
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	r.MustRegister(info)
	return m
}

func flag(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// Handler serves the metrics in Prometheus' text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
