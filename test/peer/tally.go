package peer

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A Tally counts how often each rule, each error and each line of differences.txt about our server was met.
type Tally struct {
	unbuilt map[protoreflect.FullName]string // as in differences: errors that only these answer cannot be met
	names   []string                         // of what has to be met, in the order of the table

	mu     sync.Mutex // guards counts
	counts map[string]int
}

// NewTally returns a tally at 0 of what the servers of cfg can be made to do.
func NewTally(cfg Config) *Tally { return newTally(cfg.differences()) }

func newTally(d differences) *Tally {
	t := &Tally{unbuilt: d.unbuilt, counts: map[string]int{}}
	at := slices.IndexFunc(rules, func(r string) bool { return !strings.HasPrefix(r, "1.3 ") })
	t.names = append(t.names, rules[:at]...)
	for _, group := range apiErrors {
		if t.unbuilt[group.by] != "" {
			continue
		}
		for _, e := range group.errors {
			t.names = append(t.names, e.String())
		}
	}
	t.names = append(t.names, rules[at:]...)
	var lines []string
	for _, about := range []map[protoreflect.FullName]string{d.unbuilt, d.answered} {
		for name := range about {
			lines = append(lines, lineRow(name))
		}
	}
	slices.Sort(lines)
	t.names = append(t.names, lines...)
	for _, name := range t.names {
		t.counts[name] = 0
	}
	return t
}

// lineRow is the row of a line of differences.txt. A line that is never met is out of date and has to go.
func lineRow(name protoreflect.FullName) string { return "differences.txt: " + string(name) }

// hit counts one meeting with a rule. A rule the catalogue does not know is a mistake of this package.
func (t *Tally) hit(rule string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.counts[rule]; !ok {
		panic(fmt.Sprintf("peer: no rule %q in the catalogue", rule))
	}
	t.counts[rule]++
}

// countError counts an answer if it is one of the catalogue's errors.
func (t *Tally) countError(code codes.Code, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := apiError{code, text}.String()
	if _, ok := t.counts[name]; ok {
		t.counts[name]++
	}
}

// countRefusal counts an error that a watch names as the reason of its refusal; such a reason has no code.
func (t *Tally) countRefusal(reason string) {
	for _, group := range apiErrors {
		for _, e := range group.errors {
			if e.text == reason {
				t.countError(e.code, e.text)
			}
		}
	}
}

// Missing returns what was not met so far, in the order of the table.
func (t *Tally) Missing() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var missing []string
	for _, name := range t.names {
		if t.counts[name] == 0 {
			missing = append(missing, name)
		}
	}
	return missing
}

// Print writes the table: a count and a name per line, then what cannot be met and why.
func (t *Tally) Print(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range t.names {
		fmt.Fprintf(w, "%8d  %s\n", t.counts[name], name)
	}
	var out []string
	for _, group := range apiErrors {
		for _, e := range group.errors {
			if reason := t.unbuilt[group.by]; reason != "" {
				out = append(out, fmt.Sprintf("       -  %s (%s)\n", e, reason))
			}
		}
	}
	for text, reason := range unreachable {
		out = append(out, fmt.Sprintf("       -  1.4 %s (%s)\n", text, reason))
	}
	slices.Sort(out)
	fmt.Fprint(w, strings.Join(out, ""))
}
