package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// outputs are the values of -o.
var outputs = []string{"table", "wide", "json", "jsonl", "yaml"}

// machine says whether an output is for programs: the messages of the API, with
// the names that the HTTP API gives them.
func machine(output string) bool { return output == "json" || output == "jsonl" || output == "yaml" }

// marshal is the one form of a message for programs: every field, so that a
// script finds what it expects. protojson varies its white space on purpose;
// encoding/json's is stable.
func marshal(m proto.Message) (json.RawMessage, error) {
	text, err := protojson.MarshalOptions{EmitUnpopulated: true, UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return nil, err
	}
	return compact.Bytes(), nil
}

// printMessage prints one message in a machine's form.
func printMessage(w io.Writer, output string, m proto.Message) error {
	text, err := marshal(m)
	if err != nil {
		return err
	}
	return printJSON(w, output, text)
}

// printMessages prints a list: an array, or with jsonl one a line.
func printMessages[M proto.Message](w io.Writer, output string, messages []M) error {
	texts := make([]json.RawMessage, 0, len(messages))
	for _, m := range messages {
		text, err := marshal(m)
		if err != nil {
			return err
		}
		texts = append(texts, text)
	}
	if output == "jsonl" {
		for _, text := range texts {
			if _, err := fmt.Fprintf(w, "%s\n", text); err != nil {
				return err
			}
		}
		return nil
	}
	all, err := json.Marshal(texts)
	if err != nil {
		return err
	}
	return printJSON(w, output, all)
}

// printJSON prints JSON text as the output wants it.
func printJSON(w io.Writer, output string, text []byte) error {
	switch output {
	case "json":
		var indented bytes.Buffer
		if err := json.Indent(&indented, text, "", "  "); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "%s\n", indented.Bytes())
		return err
	case "yaml":
		return printYAML(w, text)
	}
	_, err := fmt.Fprintf(w, "%s\n", text)
	return err
}

// printYAML prints JSON text as YAML, fields in the same order. JSON is YAML,
// so only the style changes; strings stay quoted where they must.
func printYAML(w io.Writer, text []byte) error {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return err
	}
	blockStyle(&document)
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(&document); err != nil {
		return err
	}
	return encoder.Close()
}

func blockStyle(n *yaml.Node) {
	if len(n.Content) > 0 || n.Kind == yaml.ScalarNode {
		n.Style = 0
	}
	for _, child := range n.Content {
		blockStyle(child)
	}
}

// table prints rows in columns that are as wide as their widest cell.
type table struct {
	rows [][]string
}

// row adds a row.
func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// write prints the table; the last column is not padded.
func (t *table) write(w io.Writer) error {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}
