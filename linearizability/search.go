package linearizability

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

var (
	modelsOfGID    = []porcupine.Model{gidModel(1), gidModel(4), gidModel(anything)}
	modelOfKey     = keyModel()
	modelOfPartial = partialModel()
)

// checkGID asks whether some order of one GID's operations explains all answers.
func (j *judge) checkGID(p *partition) {
	if j.cancelled(p.name) {
		return
	}
	if j.history.Header.Partial || j.history.Header.BegunUnseen && !p.begun() {
		j.conclusion(p, modelOfPartial, j.entries(p, false))
		return
	}
	// Most transactions are explained by what was called, each call at one point, and
	// little that nobody was told of: those are small searches. Only the others need
	// the rest.
	if porcupine.CheckOperationsTimeout(modelsOfGID[0], j.entries(p, false), j.options.Timeout/4) == porcupine.Ok {
		return
	}
	entries := j.entries(p, true)
	if porcupine.CheckOperationsTimeout(modelsOfGID[1], entries, j.options.Timeout/4) == porcupine.Ok {
		return
	}
	j.conclusion(p, modelsOfGID[2], entries)
}

func (j *judge) checkKey(p *partition) {
	if !j.cancelled(p.name) {
		j.conclusion(p, modelOfKey, j.compiler.keyEvents(p))
	}
}

func (j *judge) cancelled(name string) bool {
	if j.ctx.Err() == nil {
		return false
	}
	j.broken(Violation{Promise: promiseTimeout, GID: name, Text: "not checked: the check was ended before"})
	return true
}

func (j *judge) entries(p *partition, byItself bool) []porcupine.Operation {
	events := j.compiler.events(p, byItself)
	out := make([]porcupine.Operation, len(events))
	internal := 1 << 20 // a row of its own in a drawing
	for i := range events {
		e := &events[i]
		out[i] = porcupine.Operation{Input: e, Call: e.from, Return: e.to}
		if e.op != nil {
			out[i].ClientId = e.op.Client
		} else {
			out[i].ClientId = internal
		}
	}
	return out
}

func (j *judge) conclusion(p *partition, model porcupine.Model, entries []porcupine.Operation) {
	began := time.Now()
	switch porcupine.CheckOperationsTimeout(model, entries, j.options.Timeout) {
	case porcupine.Ok:
	case porcupine.Unknown:
		j.broken(Violation{
			Promise: promiseTimeout, GID: p.name,
			Text: fmt.Sprintf("no verdict on %s after %s: keep histories shorter, or give the check more time",
				plural(len(entries), "operation"), time.Since(began).Round(time.Millisecond)),
		})
	case porcupine.Illegal:
		j.broken(j.explain(p, model, entries))
	}
}

// operationsShownMax bounds a violation's list.
const operationsShownMax = 40

// explain searches once more, and says how far an order could be found.
func (j *judge) explain(p *partition, model porcupine.Model, entries []porcupine.Operation) Violation {
	_, info := porcupine.CheckOperationsVerbose(model, entries, j.options.Timeout)
	v := Violation{Promise: promiseLinearizable, GID: p.name}
	v.Text = fmt.Sprintf("no order of these %s explains every answer", plural(len(p.ops), "operation"))
	var longest []porcupine.Operation
	for _, orders := range info.PartialLinearizationsOperations() {
		for _, order := range orders {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	if culprit := firstLeftOut(entries, longest); culprit != nil {
		state := model.Init()
		for _, e := range longest {
			_, state = model.Step(state, e.Input, e.Output)
		}
		v.Text += fmt.Sprintf("; with the others in order, the transaction is %s, which this contradicts: %s",
			model.DescribeState(state), model.DescribeOperation(culprit.Input, culprit.Output))
	}
	for _, op := range p.ops {
		if op.Line > 0 {
			v.Lines = append(v.Lines, op.Line)
		}
		if len(v.Operations) < operationsShownMax {
			v.Operations = append(v.Operations, where(op))
		}
	}
	if extra := len(p.ops) - operationsShownMax; extra > 0 {
		v.Operations = append(v.Operations, fmt.Sprintf("... and %d more", extra))
	}
	v.HTML = j.draw(p.name, model, info)
	return v
}

// firstLeftOut is the entry that returned first of those that an order lacks.
func firstLeftOut(entries, order []porcupine.Operation) *porcupine.Operation {
	var first *porcupine.Operation
	for i := range entries {
		e := &entries[i]
		in := slices.ContainsFunc(order, func(o porcupine.Operation) bool { return o.Input == e.Input })
		if !in && (first == nil || e.Return < first.Return) {
			first = e
		}
	}
	return first
}

// draw writes porcupine's page and returns its name, or why there is none.
func (j *judge) draw(name string, model porcupine.Model, info porcupine.LinearizationInfo) string {
	if j.options.HTML == "" {
		return ""
	}
	file := filepath.Join(j.options.HTML, fileName(name)+".html")
	err := os.MkdirAll(j.options.HTML, 0o755)
	if err == nil {
		err = porcupine.VisualizePath(model, info, file)
	}
	if err != nil {
		return "not drawn: " + err.Error()
	}
	return file
}

func fileName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' {
			return r
		}
		return '_'
	}, name)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
