package results

import (
	"fmt"
	"slices"
	"sync"

	"twlab/harness/diagnose"
	"twlab/harness/page"
)

// brief is a scenario file that the suite has run.
type brief struct {
	page.Article
	// SameFile is where the page has the text of its file already.
	SameFile link
}

// briefs are the incidents and the causes among the recordings of a run.
func briefs(files []File) (incidents, causes []brief) {
	var scenarios []*File
	for i := range files {
		if files[i].Kind != OfCell {
			scenarios = append(scenarios, &files[i])
		}
	}
	articles := make([]page.Article, len(scenarios))
	var making sync.WaitGroup
	for i, f := range scenarios {
		making.Go(func() { articles[i] = page.NewArticle(fmt.Sprintf("f%d", i+1), "", &f.Recording) })
	}
	making.Wait()
	first := map[string]link{} // where the text of a file is
	for i, a := range articles {
		b := brief{Article: a}
		if at, there := first[b.Lines]; there {
			b.SameFile = at
		} else {
			first[b.Lines] = link{b.Name, "#" + b.ID}
		}
		if scenarios[i].Kind == OfCause {
			causes = append(causes, b)
		} else {
			incidents = append(incidents, b)
		}
	}
	return incidents, causes
}

// causeOf is a cause that a rule names, and where the page has it brought about.
type causeOf struct {
	ID, Why, Href string
	Cells         int
}

// linkCauses notes with each rule the causes that its cells have, and returns all of them.
func linkCauses(all []*family, shown []brief) (ids []string) {
	href := map[string]string{}
	for i := range slices.Backward(shown) { // the first one is what remains
		if answers := shown[i].Answers; len(answers) > 0 && shown[i].Class == "good" {
			href[answers[0].Cause] = "#" + shown[i].ID
		}
	}
	for _, f := range all {
		for i := range f.Rules {
			f.Rules[i].causes(href)
			for _, c := range f.Rules[i].Causes {
				ids = append(ids, c.ID)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// causes notes those of the rule's cells.
func (r *rule) causes(href map[string]string) {
	for _, c := range r.Cells {
		if c.Cause == "" {
			continue
		}
		at := slices.IndexFunc(r.Causes, func(o causeOf) bool { return o.ID == c.Cause })
		if at < 0 {
			known, _ := diagnose.Find(c.Cause)
			at = len(r.Causes)
			r.Causes = append(r.Causes, causeOf{ID: c.Cause, Why: known.Why, Href: href[c.Cause]})
		}
		r.Causes[at].Cells++
	}
}
