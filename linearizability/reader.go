package linearizability

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// LineBytesMax bounds one line of a history.
const LineBytesMax = 16 << 20

// LineError says which line of a history cannot be read, why, and what to do.
type LineError struct {
	File string
	Line int
	Why  string
	Do   string
}

func (e *LineError) Error() string {
	file := e.File
	if file == "" {
		file = "history"
	}
	return fmt.Sprintf("%s:%d: %s (%s)", file, e.Line, e.Why, e.Do)
}

// ReadFile reads the history in a file.
func ReadFile(name string) (*History, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read a history: %w", err)
	}
	defer f.Close()
	return read(f, name)
}

// Read reads a history. A last line that was cut off is left out: its writer
// died, and what it would have said stays unknown. Every other error is a
// *LineError.
func Read(r io.Reader) (*History, error) { return read(r, "") }

func read(r io.Reader, file string) (*History, error) {
	p := parser{history: &History{File: file}, open: map[int64]int{}, done: map[int64]bool{}}
	in := bufio.NewReaderSize(r, 1<<16)
	for {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) {
			if len(bytes.TrimSpace(line)) > 0 {
				// Without its newline it is whole only by luck: believe it if it parses.
				p.number++
				if p.take(line) != nil && p.number == 1 {
					return nil, p.fail("the header is cut off", "record it again")
				}
			}
			break
		}
		if err != nil {
			p.number++
			return nil, p.fail(err.Error(), "check that the file is a history: JSON, one object a line")
		}
		p.number++
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if err := p.take(line); err != nil {
			return nil, err
		}
	}
	if !p.headed {
		p.number = max(p.number, 1)
		return nil, p.fail("the file is empty", "a history begins with a header line")
	}
	for _, i := range p.open {
		p.history.Operations[i].Status = StatusUnknown
	}
	return p.history, nil
}

var errLineTooLong = fmt.Errorf("the line is longer than %d MiB", LineBytesMax>>20)

func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	whole := slices.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = in.ReadSlice('\n')
		if whole = append(whole, line...); len(whole) > LineBytesMax {
			return nil, errLineTooLong
		}
	}
	return whole, err
}

// parser turns lines into a history.
type parser struct {
	history *History
	number  int
	headed  bool
	// open holds, by id, the place of each operation that has not returned.
	open map[int64]int
	done map[int64]bool
}

func (p *parser) fail(why, do string) error {
	return &LineError{File: p.history.File, Line: p.number, Why: why, Do: do}
}

func (p *parser) take(line []byte) error {
	which, err := kindOf(line)
	if err != nil {
		return p.fail("no JSON object: "+err.Error(), "each line is one JSON object")
	}
	if p.headed == (which == lineHeader) {
		if p.headed {
			return p.fail("a second header", "check two histories one by one, do not join them")
		}
		return p.fail("the first line is no header", `begin with {"line":"header","format":1}`)
	}
	switch which {
	case lineHeader:
		return p.header(line)
	case lineCall:
		return p.call(line)
	case lineReturn:
		return p.returned(line)
	case lineOperation:
		return p.operation(line)
	case lineObserve:
		return p.observe(line)
	default:
		return p.fail(fmt.Sprintf("a line of the unknown kind %q", which),
			"the kinds are header, call, return, operation and observe")
	}
}

// kindOf tells which kind of line this is. In those that a Recorder wrote it stands
// first, and the line need not be parsed twice.
func kindOf(line []byte) (string, error) {
	if rest, ok := bytes.CutPrefix(line, []byte(`{"line":"`)); ok {
		if kind, _, ok := bytes.Cut(rest, []byte(`"`)); ok && slices.Contains(lineKinds, string(kind)) {
			return string(kind), nil
		}
	}
	var which struct {
		Line string `json:"line"`
	}
	err := json.Unmarshal(line, &which)
	return which.Line, err
}

// decode is strict: a field that is misspelt would otherwise be left unchecked.
func (p *parser) decode(line []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return p.fail(err.Error(), "docs/verify.md lists the fields")
	}
	if d.InputOffset() < int64(len(bytes.TrimRight(line, " \t\r\n"))) {
		return p.fail("more than one JSON value on the line", "each line is one JSON object")
	}
	return nil
}

func (p *parser) header(line []byte) error {
	var h headerLine
	if err := p.decode(line, &h); err != nil {
		return err
	}
	if h.Format != Format {
		return p.fail(fmt.Sprintf("format %d", h.Format), fmt.Sprintf("this version reads format %d", Format))
	}
	p.headed, p.history.Header = true, h.Header
	return nil
}

func (p *parser) call(line []byte) error {
	var c callLine
	if err := p.decode(line, &c); err != nil {
		return err
	}
	if _, twice := p.open[c.ID]; twice || p.done[c.ID] {
		return p.fail(fmt.Sprintf("a second call with id %d", c.ID), "give each call an id of its own")
	}
	op := Operation{
		Client: c.Client, Call: c.At, Kind: c.Kind, GID: c.GID, Namespace: c.Namespace, Key: c.Key,
		Branch: c.Branch, Input: c.Input, Status: StatusUnknown, Line: p.number,
	}
	if err := p.checkCall(&op); err != nil {
		return err
	}
	p.open[c.ID] = len(p.history.Operations)
	p.history.Operations = append(p.history.Operations, op)
	return nil
}

func (p *parser) returned(line []byte) error {
	var r returnLine
	if err := p.decode(line, &r); err != nil {
		return err
	}
	i, ok := p.open[r.ID]
	if !ok {
		return p.fail(fmt.Sprintf("a return of id %d, which is not pending", r.ID), "a call line comes before its one return line")
	}
	delete(p.open, r.ID)
	p.done[r.ID] = true
	op := &p.history.Operations[i]
	op.Status, op.Output, op.Error, op.Node = r.Status, r.Output, r.Error, r.Node
	if r.Status != StatusUnknown {
		op.Return = r.At
	}
	return p.checkReturn(op)
}

func (p *parser) operation(line []byte) error {
	var o operationLine
	if err := p.decode(line, &o); err != nil {
		return err
	}
	o.Operation.Line = p.number
	if err := p.checkCall(&o.Operation); err != nil {
		return err
	}
	if o.Status == "" {
		o.Status = StatusUnknown
	}
	if err := p.checkReturn(&o.Operation); err != nil {
		return err
	}
	p.history.Operations = append(p.history.Operations, o.Operation)
	return nil
}

func (p *parser) observe(line []byte) error {
	var o observeLine
	if err := p.decode(line, &o); err != nil {
		return err
	}
	o.Observation.Line = p.number
	if err := p.checkObservation(&o.Observation); err != nil {
		return err
	}
	p.history.Observations = append(p.history.Observations, o.Observation)
	return nil
}
