package sim

// impossible says why a command never meets a state here; all other cells of the
// table are declared reachable.
var impossible = map[[2]string]string{}

func possible(state, command string) bool {
	_, no := impossible[[2]string{state, command}]
	switch command {
	case "tick deadline":
		return state == "A" || state == "S"
	case "tick retention":
		return state == "C+" || state == "R+"
	}
	return !no
}
