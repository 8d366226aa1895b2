package results

import (
	"fmt"
	"slices"

	"twlab/harness/report"
	"twlab/scenarios"
	"twlab/scenarios/document"
)

// claimRow is a sentence of the document beside what the kernels did.
type claimRow struct {
	Number                         int
	English, Chinese, Truth, Since string
	Mark, MarkClass                string
	Scores                         []score
	Rules                          []link
}

// score is in how many cells of the claim's rules a kernel did what they say.
type score struct {
	Text  string
	Wrong bool
}

type link struct{ Text, Href string }

// section is a part of the document.
type section struct {
	Title string
	Rows  []claimRow
}

// claims are those of the document with what the runs show of them.
func claims(runs []Run, all []*family) (sections []section) {
	ids := map[string]string{}
	for _, f := range all {
		if f.Emulated == "" {
			for _, r := range f.Rules {
				ids[r.Name] = r.ID
			}
		}
	}
	number := 0
	for _, s := range document.Document() {
		part := section{Title: s.Title}
		for _, c := range s.Claims {
			number++
			row := claimRow{
				Number: number, English: c.English, Chinese: c.Chinese, Truth: c.Truth, Since: c.Since, Mark: string(c.Mark),
				MarkClass: map[document.Mark]string{document.Right: "good", document.Imprecise: "warn", document.Wrong: "bad", document.Dated: "warn"}[c.Mark],
			}
			names := map[string]bool{}
			for _, r := range c.Proofs() {
				names[r.Name] = true
				if id, there := ids[r.Name]; there {
					row.Rules = append(row.Rules, link{r.Name, "#" + id})
				}
			}
			for i := range runs {
				row.Scores = append(row.Scores, scoreOf(&runs[i], names))
			}
			part.Rows = append(part.Rows, row)
		}
		sections = append(sections, part)
	}
	return sections
}

func scoreOf(r *Run, rules map[string]bool) score {
	agree, tried := 0, 0
	for i := range r.Cells {
		if one := &r.Cells[i].Result; rules[one.Rule] && !one.Emulated {
			tried++
			if one.Agrees() {
				agree++
			}
		}
	}
	if tried == 0 {
		return score{"–", false}
	}
	return score{fmt.Sprintf("%d/%d", agree, tried), agree < tried}
}

// kernelStep is a rule that takes the place of another between two kernels.
type kernelStep struct {
	From, To              string // headings, the older one first
	Before, Since         string // rules
	Because               string // of the newer one
	BeforeSays, NowSays   string
	Cells                 []link
	BeforeClass, NowClass string
}

// steps are the cells that go by another rule on the next newer kernel that has them; first those in
// which it goes another way for a user.
func steps(runs []Run, all []*family) (list []kernelStep) {
	headline := map[string]string{}
	for _, f := range scenarios.Families() {
		for i := range f.Rules {
			headline[f.Rules[i].Name] = f.Rules[i].Headline()
		}
	}
	at := map[[4]string]int{}
	for _, f := range all {
		if f.Emulated != "" {
			continue
		}
		for _, r := range f.Rules {
			for _, c := range r.Cells {
				newer := -1
				for i, one := range c.on {
					if one == nil {
						continue
					}
					if newer >= 0 && c.on[newer].Result.Rule != one.Result.Rule {
						was, is := one.Result, c.on[newer].Result
						key := [4]string{runs[i].Heading, runs[newer].Heading, was.Rule, is.Rule}
						if _, there := at[key]; !there {
							at[key] = len(list)
							list = append(list, kernelStep{
								From: key[0], To: key[1], Before: was.Rule, Since: is.Rule, BeforeSays: headline[was.Rule], NowSays: headline[is.Rule],
								Because: report.Plain(is.Because), BeforeClass: ClassOf(was.Seen).CSS(), NowClass: ClassOf(is.Seen).CSS(),
							})
						}
						list[at[key]].Cells = append(list[at[key]].Cells, link{f.Name + " " + c.Values, "#" + c.ID})
					}
					newer = i
				}
			}
		}
	}
	slices.SortStableFunc(list, func(a, b kernelStep) int {
		alike := map[bool]int{true: 1}
		return alike[a.BeforeClass == a.NowClass] - alike[b.BeforeClass == b.NowClass]
	})
	return list
}
