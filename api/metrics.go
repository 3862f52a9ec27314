package api

import (
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
)

// durationBuckets are in seconds: from half a millisecond, below one fsync, to
// the longest timeout of a transaction.
var durationBuckets = []float64{
	.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600,
}

// Metrics is one node's registry of metrics and the counters that others tell
// it of: it is the coordinator's Observer. Nothing is ever labelled by gid,
// branch, key or URL: such labels grow without bound.
type Metrics struct {
	registry *prometheus.Registry

	started          *prometheus.CounterVec
	finished         *prometheus.CounterVec
	decisionSeconds  *prometheus.HistogramVec
	finishSeconds    *prometheus.HistogramVec
	branchCalls      *prometheus.CounterVec
	branchCallSecond *prometheus.HistogramVec
	requests         *prometheus.CounterVec
	forwards         *prometheus.CounterVec

	begun  *kept[fsm.Mode, prometheus.Counter]
	took   *kept[fsm.Mode, prometheus.Observer]
	ended  *kept[endKey, timed]
	called *kept[callKey, timed]
	served *kept[servedKey, prometheus.Counter]

	series series
}

// timed is a counter with how long each took.
type timed struct {
	count   prometheus.Counter
	seconds prometheus.Observer
}

type (
	endKey struct {
		mode     fsm.Mode
		decision fsm.Decision
	}
	callKey struct {
		mode             fsm.Mode
		operation        fsm.Operation
		protocol, result string
	}
	servedKey struct {
		method string
		reason Reason
	}
)

var _ coordinator.Observer = (*Metrics)(nil)

// NewMetrics makes a registry of its own, with the process' and Go's series.
func NewMetrics(version, commit string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), series: newSeries(),
		started: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_transactions_started_total", Help: "Transactions that this node, leading, saw begin.",
		}, []string{"mode"}),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_transactions_finished_total", Help: "Transactions all of whose branches have ended, by outcome.",
		}, []string{"mode", "outcome"}),
		decisionSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "quorate_decision_duration_seconds", Buckets: durationBuckets,
			Help: "From the asked commit or rollback to its decision committed in the log.",
		}, []string{"mode"}),
		finishSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "quorate_transaction_duration_seconds", Buckets: durationBuckets,
			Help: "From begin until every branch has ended, by the cluster clock.",
		}, []string{"mode", "outcome"}),
		branchCalls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_branch_calls_total", Help: "Attempts at a branch: telling it its outcome, or calling what it does.",
		}, []string{"mode", "op", "protocol", "result"}),
		branchCallSecond: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "quorate_branch_call_duration_seconds", Help: "How long an attempt at a branch took.", Buckets: durationBuckets,
		}, []string{"op", "protocol"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_api_requests_total", Help: "Calls answered, by method and reason (OK, or the error's).",
		}, []string{"method", "reason"}),
		forwards: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_api_forwards_total", Help: "HTTP calls handed to the leader, by reason of the answer.",
		}, []string{"reason"}),
	}
	m.begun = keep(func(mode fsm.Mode) prometheus.Counter { return m.started.WithLabelValues(modeText(mode)) })
	m.took = keep(func(mode fsm.Mode) prometheus.Observer { return m.decisionSeconds.WithLabelValues(modeText(mode)) })
	m.ended = keep(func(k endKey) timed {
		mode, outcome := modeText(k.mode), decisionText(k.decision)
		return timed{m.finished.WithLabelValues(mode, outcome), m.finishSeconds.WithLabelValues(mode, outcome)}
	})
	m.called = keep(func(k callKey) timed {
		op := operationText(k.operation)
		return timed{
			m.branchCalls.WithLabelValues(modeText(k.mode), op, k.protocol, k.result),
			m.branchCallSecond.WithLabelValues(op, k.protocol),
		}
	})
	m.served = keep(func(k servedKey) prometheus.Counter { return m.requests.WithLabelValues(k.method, string(k.reason)) })
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "quorate_build_info", Help: "Always 1; the labels tell the build.",
		ConstLabels: prometheus.Labels{"version": version, "commit": commit},
	})
	build.Set(1)
	m.registry.MustRegister(m.started, m.finished, m.decisionSeconds, m.finishSeconds, m.branchCalls,
		m.branchCallSecond, m.requests, m.forwards, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Registry is where further collectors of this node are registered.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Handler serves the registry's series.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// TransactionStarted implements coordinator.Observer.
func (m *Metrics) TransactionStarted(mode fsm.Mode) {
	m.series.started.at(int(mode), func() prometheus.Counter { return m.started.WithLabelValues(modeText(mode)) }).Inc()
}

// TransactionDecided implements coordinator.Observer.
func (m *Metrics) TransactionDecided(mode fsm.Mode, _ fsm.Decision, took time.Duration) {
	m.series.decided.at(int(mode), func() prometheus.Observer {
		return m.decisionSeconds.WithLabelValues(modeText(mode))
	}).Observe(took.Seconds())
}

// TransactionFinished implements coordinator.Observer.
func (m *Metrics) TransactionFinished(mode fsm.Mode, decision fsm.Decision, took time.Duration) {
	s := m.series.finished.at(place(int(mode), modesMax, int(decision), decisionsMax), func() counted {
		labels := []string{modeText(mode), decisionText(decision)}
		return counted{m.finished.WithLabelValues(labels...), m.finishSeconds.WithLabelValues(labels...)}
	})
	s.count.Inc()
	s.took.Observe(took.Seconds())
}

// BranchCall implements coordinator.Observer.
func (m *Metrics) BranchCall(mode fsm.Mode, operation fsm.Operation, protocol, result string, took time.Duration) {
	s := m.series.calls.at(callPlace(mode, operation, protocol, result), func() counted {
		op := operationText(operation)
		return counted{m.branchCalls.WithLabelValues(modeText(mode), op, protocol, result), m.branchCallSecond.WithLabelValues(op, protocol)}
	})
	s.count.Inc()
	s.took.Observe(took.Seconds())
}

// operationText is what a branch was asked to do, as labels say it.
func operationText(op fsm.Operation) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(op.String(), "OPERATION_"), "_", "-"))
}

// answered counts one call of a registered method.
func (m *Metrics) answered(method string, reason Reason) {
	if reason == "" {
		reason = "OK"
	}
	m.served.get(servedKey{method, reason}).Inc()
}

// modeText is a mode as people and labels say it.
func modeText(mode fsm.Mode) string {
	if mode == 0 {
		return "two-phase"
	}
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(mode.String(), "MODE_"), "_", "-"))
}
