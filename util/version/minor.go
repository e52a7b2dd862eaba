package version

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Minor is a version of etcd without its patch number. Members of one minor version understand each other.
type Minor struct{ Major, Minor uint64 }

// identifiers may follow the numbers of a version: of a release before it, of a build.
var identifiers = regexp.MustCompile(`^(-([0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?)?(\+([0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?)?$`)

// ParseMinor reads a semantic version.
func ParseMinor(text string) (Minor, error) {
	number, _, _ := strings.Cut(text, "+")
	number, _, _ = strings.Cut(number, "-")
	parts := strings.Split(number, ".")
	if len(parts) != 3 {
		return Minor{}, fmt.Errorf("%q is no semantic version", text)
	}
	if !identifiers.MatchString(text[len(number):]) {
		return Minor{}, fmt.Errorf("%q is no semantic version", text)
	}
	var n [3]uint64
	for i, part := range parts {
		var err error
		if n[i], err = strconv.ParseUint(part, 10, 32); err != nil {
			return Minor{}, fmt.Errorf("%q is no semantic version: %w", text, err)
		}
	}
	return Minor{n[0], n[1]}, nil
}

// MustParseMinor is ParseMinor for versions that stand in this program.
func MustParseMinor(text string) Minor {
	v, err := ParseMinor(text)
	if err != nil {
		panic(fmt.Sprintf("version: one of our own: %v", err))
	}
	return v
}

// Below tells whether v is older than w.
func (v Minor) Below(w Minor) bool {
	return v.Major < w.Major || v.Major == w.Major && v.Minor < w.Minor
}

// Previous is the version to which a cluster of version v can go back. That before the first of a major version is none.
func (v Minor) Previous() Minor { return Minor{v.Major, v.Minor - 1} }

// Short cuts the patch number off a version, the form in which etcd answers.
func Short(v string) string {
	major, rest, _ := strings.Cut(v, ".")
	minor, _, _ := strings.Cut(rest, ".")
	return major + "." + minor
}

// String is the form in which etcd names the version of a cluster, such as 3.7.0.
func (v Minor) String() string { return fmt.Sprintf("%d.%d.0", v.Major, v.Minor) }
