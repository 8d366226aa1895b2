package scriptfile

import "regexp"

// form says what a value looks like, for whoever checks files without reading them: the JSON
// schema is made of the forms of all keys.
type form struct {
	kind formKind
	// pattern is what a text must match, words what it may be; without either, any text.
	pattern *regexp.Regexp
	words   []string
	// numbers lets a whole number from low on stand without quotes, truth values true and false.
	// decimals lets any number.
	numbers, truths, decimals bool
	low                       int
	// of is the form of the entries.
	of *form
}

type formKind int

const (
	scalarForm  formKind = iota
	mappingForm          // of the keys below
	namesForm            // of names that the file chooses to values
	listForm
	oneOrListForm // a list, or one entry without one
	linkOrMapping // two nodes, or a mapping of the keys below
)

// The forms of mappings, and of texts that say what they like.
var (
	mapping = form{kind: mappingForm}
	anyText = form{numbers: true, truths: true}
)

var digits = regexp.MustCompile(`^(0|[1-9][0-9]{0,9})$`)

// The forms of scalars.
var (
	numberForm  = numbered(0, digits)
	acceptForm  = numbered(1, regexp.MustCompile(`^([1-9][0-9]{0,9}|never)$`))
	portForm    = numbered(1, regexp.MustCompile(`^[1-9][0-9]{0,4}$`))
	portsForm   = matching(regexp.MustCompile(`^[1-9][0-9]{0,4} *- *[1-9][0-9]{0,4}$`))
	percentForm = form{pattern: regexp.MustCompile(`^[0-9]{1,3}(\.[0-9]{1,4})?$`), numbers: true, decimals: true}
	durations   = matching(regexp.MustCompile(`^(0|[0-9.]+[a-zµ]+[0-9.a-zµ]*)$`))
	timesForm   = matching(regexp.MustCompile(`^(([<>]= ?)?[0-9.]+[a-zµ]+[0-9.a-zµ]*|[0-9.]+[a-zµ]+\.\.[0-9.]+[a-zµ]+)$`))
	boundForm   = numbered(0, regexp.MustCompile(`^(still|rises|syns\([a-zA-Z0-9_-]+\)|([<>]= *)?[0-9]+|[0-9]+\.\.[0-9]+)$`))

	endpointForm = matching(regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,29}(\.ipv6)?(:[1-9][0-9]{0,4})?$`))
	connForm     = matching(regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,29}(@server)?$`))
	pairForm     = matching(regexp.MustCompile(`^ *[a-z][a-z0-9_-]* *-- *[a-z][a-z0-9_-]* *$`))
	sourceForm   = matching(regexp.MustCompile("^https?://"))
)

func namesOf(f form) form     { return form{kind: namesForm, of: &f} }
func listOf(f form) form      { return form{kind: listForm, of: &f} }
func oneOrListOf(f form) form { return form{kind: oneOrListForm, of: &f} }

// matching is the form of a text.
func matching(pattern *regexp.Regexp) form { return form{pattern: pattern} }

// numbered is the form of a number, or of a text that matches.
func numbered(low int, pattern *regexp.Regexp) form {
	return form{pattern: pattern, numbers: true, low: low}
}
