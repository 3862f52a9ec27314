package linearizability

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// Write writes a history that was put together afterwards, out of what several
// processes wrote down. Whoever sees it happen uses a Recorder.
func Write(w io.Writer, h *History) error {
	header := h.Header
	if header.Format == 0 {
		header.Format = Format
	}
	out := bufio.NewWriterSize(w, 1<<16)
	encoder := json.NewEncoder(out)
	err := encoder.Encode(headerLine{Line: lineHeader, Header: header})
	for i := 0; err == nil && i < len(h.Operations); i++ {
		err = encoder.Encode(operationLine{Line: lineOperation, Operation: h.Operations[i]})
	}
	for i := 0; err == nil && i < len(h.Observations); i++ {
		err = encoder.Encode(observeLine{Line: lineObserve, Observation: h.Observations[i]})
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("write a history: %w", err)
	}
	return nil
}
