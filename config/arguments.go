package config

import "strings"

// masked stands where a secret stood.
const masked = "***"

// Masked is a command line as it may be shown: without the values of flags that are secrets.
func Masked(args []string) []string {
	shown := make([]string, len(args))
	hide := false // the argument is the value of the flag before it
	for i, arg := range args {
		shown[i] = arg
		if hide {
			shown[i], hide = masked, false
			continue
		}
		name, _, valued := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		if !strings.HasPrefix(arg, "-") || !isSecret(name) {
			continue
		}
		if hide = !valued; valued {
			shown[i] = arg[:strings.IndexByte(arg, '=')+1] + masked
		}
	}
	return shown
}

// isSecret tells whether the flag's value must not be shown.
func isSecret(name string) bool {
	for _, f := range table {
		if f.Name == name {
			return f.target().secret || f.secret
		}
	}
	return false
}
