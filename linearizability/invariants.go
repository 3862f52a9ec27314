package linearizability

// invariants checks what spans processes: over every answer and every observation
// of one GID.
func (j *judge) invariants() {}
