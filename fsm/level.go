package fsm

// An entry says which feature level its readers must have. A leader stamps what
// all nodes have, so that versions can be mixed while they are upgraded; a node
// that meets a higher level than its own stops, and does not guess.
const (
	// FeatureLevel is the newest level that this code applies: the third has
	// packed reports and answers.
	FeatureLevel = LevelPacked
	// LevelModes is the level from which on the log holds the modes whose branches
	// are called.
	LevelModes = 2
	// LevelPacked is the level from which on several branches' words may stand in
	// one command.
	LevelPacked = 3

	// levelUnsaid is that of a node that does not say which one it has: nodes say
	// so since the third.
	levelUnsaid = LevelModes
)

// reach notes the level of an entry. What the settings' hash covers grows with it.
func (s *State) reach(level uint32) {
	hashed := hashesLevels(s.featureLevel)
	s.featureLevel = max(s.featureLevel, level)
	if hashed != hashesLevels(s.featureLevel) {
		s.settings = s.hashSettings()
	}
}

// hashesLevels says whether the digest covers the nodes' levels: nodes that know
// nothing of them must come to the same one.
func hashesLevels(level uint32) bool { return level >= LevelPacked }

// FeatureLevel is the highest level of any applied entry: every node must have it
// by now, and no leader goes below it, so commands up to it may be proposed.
func (s *State) FeatureLevel() uint32 { return s.featureLevel }

// NextFeatureLevel is what a leader stamps on its next entry: what every node in
// the directory has, and never less than what the log holds already.
func (s *State) NextFeatureLevel() uint32 {
	level := uint32(levelUnsaid)
	for i, n := range s.nodes {
		has := max(n.GetFeatureLevel(), levelUnsaid)
		if i == 0 || has < level {
			level = has
		}
	}
	return max(min(level, FeatureLevel), s.featureLevel)
}
