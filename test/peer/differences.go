package peer

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
)

//go:embed differences.txt
var differencesText string

// A treatment says how a field is compared that may differ.
type treatment struct {
	how   string // first word of the second column
	bound int64  // of "within"
}

// differences is differences.txt: treatments by the field's full name, the beginnings of texts, and what the second
// server does otherwise altogether.
type differences struct {
	slack    int64 // seconds by which one server's leases may live longer, having started later
	fields   map[protoreflect.FullName]treatment
	prefixes map[string]string                // beginning of a text -> the word that stands for all such
	unbuilt  map[protoreflect.FullName]string // service or method that ours does not serve -> reason
	answered map[protoreflect.FullName]string // request that ours answers where etcd is silent -> reason
	omitted  map[protoreflect.FullName]string // service or method that neither side is asked for -> reason
}

// differences returns what may differ between the two servers. Etcd against itself has only what any two servers have.
func (cfg Config) differences() differences {
	d := loadDifferences(differencesText)
	if cfg.Cluster != nil {
		d.load(cfg.Cluster.Differences)
	}
	if cfg.Ours == cfg.Etcd {
		d.unbuilt, d.answered = nil, nil
	}
	return d
}

// loadDifferences reads the file. A line without a reason, or about something that does not exist, panics: the file is
// part of the program.
func loadDifferences(text string) differences {
	d := differences{
		fields:   map[protoreflect.FullName]treatment{},
		prefixes: map[string]string{},
		unbuilt:  map[protoreflect.FullName]string{},
		answered: map[protoreflect.FullName]string{},
		omitted:  map[protoreflect.FullName]string{},
	}
	d.load(text)
	return d
}

// load adds the lines of a text to what may differ.
func (d differences) load(text string) {
	for n, line := range strings.Split(text, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := d.add(line); err != nil {
			panic(fmt.Sprintf("peer: differences.txt:%d: %v", n+1, err))
		}
	}
}

func (d differences) add(line string) error {
	columns := strings.Split(line, "|")
	if len(columns) != 3 || strings.TrimSpace(columns[2]) == "" {
		return fmt.Errorf("want what | how | reason")
	}
	what, reason := strings.TrimSpace(columns[0]), strings.TrimSpace(columns[2])
	name := protoreflect.FullName(what)
	how, argument, _ := strings.Cut(strings.TrimSpace(columns[1]), " ")
	exists := true
	switch how {
	case "prefix":
		d.prefixes[what] = argument
	case "any", "positive", "unordered", "spaces", "ties", "chosen":
		d.fields[name], exists = treatment{how: how}, fieldExists(name)
	case "within":
		bound, err := strconv.ParseInt(argument, 10, 64)
		if err != nil {
			return err
		}
		d.fields[name], exists = treatment{how: how, bound: bound}, fieldExists(name)
	case "unbuilt":
		d.unbuilt[name], exists = reason, methodExists(name)
	case "omitted":
		d.omitted[name], exists = reason, methodExists(name)
	case "answered":
		d.answered[name], exists = reason, messageExists(name)
	default:
		return fmt.Errorf("no comparison is called %q", how)
	}
	if !exists {
		return fmt.Errorf("there is no %q", what)
	}
	return nil
}

func fieldExists(name protoreflect.FullName) bool {
	m := pb.File_rpc_proto.Messages().ByName(name.Parent().Name())
	return m != nil && m.Fields().ByName(name.Name()) != nil
}

func messageExists(name protoreflect.FullName) bool {
	return pb.File_rpc_proto.Messages().ByName(name.Name()) != nil
}

// methodExists says whether there is a service or a method of that name.
func methodExists(name protoreflect.FullName) bool {
	services := pb.File_rpc_proto.Services()
	if name.Parent() == pb.File_rpc_proto.Package() {
		return services.ByName(name.Name()) != nil
	}
	s := services.ByName(name.Parent().Name())
	return s != nil && s.Methods().ByName(name.Name()) != nil
}

// methodLine returns the name that stands among lines for the method at path or its whole service, "" when none does.
func (d differences) methodLine(lines map[protoreflect.FullName]string, path string) protoreflect.FullName {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "."))
	for _, line := range []protoreflect.FullName{name, name.Parent()} {
		if lines[line] != "" {
			return line
		}
	}
	return ""
}

// refusesUnbuilt says whether an answer is that of a server which does not have the method at path and says so.
func refusesUnbuilt(path string, a answer) bool {
	name := path[strings.LastIndex(path, "/")+1:]
	return a.code == codes.Unimplemented &&
		(strings.HasPrefix(a.text, "holdfast: this version ") || a.text == "method "+name+" not implemented")
}
