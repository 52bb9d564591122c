"""What the sandbox's articles are made of.

`[a|b]` is a choice; `{subject}` stands only where any noun or gerund fits (after a preposition);
`{keyword}` is another keyword each time, `{audience}` a plural. Numbers: `{few}` 3–6, `{some}` 8–20,
`{many}` 25–90, `{percent}` 5–45. `{weekday}`, `{role}` and `{place}` are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
ROLES = ("the person on call", "a project lead", "the newest colleague", "an account manager", "the head of operations", "a part-time editor", "the finance team", "a volunteer", "the support desk", "an outside reviewer")  # fmt: skip
PLACES = ("a shared document", "the team calendar", "a one-page brief", "the weekly meeting", "a simple spreadsheet", "the project board", "a short checklist", "the shared inbox")  # fmt: skip
DEFAULT_AUDIENCES = ("most teams", "small teams", "busy readers", "people new to the subject", "growing companies", "practitioners")  # fmt: skip
DEFAULT_KEYWORDS = (
    "the daily routine",
    "first results",
    "clear ownership",
    "the hand-over",
    "good timing",
)

TITLES = {
    "how": ("{Topic}", "{Topic}: a [practical|plain|field-tested|step-by-step] guide", "{Topic} without the [fuss|guesswork|detours]", "{Topic}, one [step|decision|week] at a time"),
    "list": ("{Topic}", "{Topic}: what [experience|practice] adds", "{Topic}, [briefly explained|in plain words|with examples]"),
    "question": ("{Topic}", "{Topic} A [short|clear|practical] answer", "{Topic} What [experience|practice|the work] teaches"),
    "why": ("{Topic}", "{Topic}, and what to do about it", "{Topic}: the [case|argument|evidence] in brief"),
    "noun": ("{Topic}: [what works|where to start|a practical guide|lessons from practice]", "A [practical|sober|closer|fresh] look at {subject}", "[Getting more out of|Making sense of|Getting started with|Rethinking] {subject}", "{Topic} in [practice|plain words|everyday work]"),
}  # fmt: skip

EXCERPTS = (
    "[A practical|A short|A plain] guide to {subject}: [what matters|where to begin|what to leave out], [what it costs|who does what] and how to tell that it works.",
    "What {audience} [should know|ask most often|can do this month] about {subject}, with {keyword} [in view|as the thread|close at hand].",
    "[Clear steps|Honest advice|Worked examples] on {subject}, from the first [draft|attempt|afternoon] to a routine that [lasts|holds|survives a busy quarter].",
    "Why [work on|attention to] {keyword} [decides so much|comes first|pays] when it comes to {subject}, and what {audience} [can do next|gain from it].",
)  # fmt: skip

TONES: dict[str, tuple[str, ...]] = {
    "friendly": (
        "[Let's be honest|Let us be frank|Here is the good news]: nobody [gets it all right|masters {subject}|feels ready] on the first day.",
        "[Grab a coffee|Take a deep breath|Bring a pen], because a little time spent on {subject} [pays off|goes a long way|saves many a late evening].",
        "If {subject} has been sitting on your list for [weeks|months|ages], you are in [good|excellent|cheerful] company.",
        "[You|Your team] will probably [smile|wince|nod] at some of these examples of {keyword}; [most of us|we all] have been there.",
        "[No jargon, promised|Plain words only]: the part about {keyword} is simpler than it [sounds|looks|is made to sound].",
    ),
    "formal": (
        "This article [sets out|examines|summarises] the principal [considerations|questions|decisions] in regard to {subject}.",
        "A [systematic|structured|disciplined] approach to {subject} [reduces risk|supports accountability|improves consistency] and makes results comparable.",
        "[Organisations|Institutions|Departments] that document {keyword} [carefully|at an early stage] are better placed to [explain|justify|review] their decisions.",
        "[The following sections|What follows] [address|consider] {keyword} first, since most [later choices|obligations|dependencies] [rest on|derive from] it.",
    ),
    "inspiring": (
        "[Every|Each] [great change|lasting improvement|bold plan] starts with one person who takes {subject} seriously.",
        "[Imagine|Picture] a [quarter|season|year] in which [work on|handling] {keyword} is [a strength|second nature|a source of pride] rather than a worry.",
        "[Small wins|First results|Early victories] in {subject} [spread|build courage|open doors] faster than any announcement.",
        "[There has never been|It is hard to think of] a better moment to [rethink|take on|begin with] {keyword}.",
    ),
    "practical": (
        "[This is a working guide|Here is what we would do|The advice below is meant to be used]: [short steps|plain decisions|few rules] on {subject}, [nothing more|no theory].",
        "[Start small|Begin with one case|Pick a single example], write down what happened, and only then [widen|extend|repeat] the work on {subject}.",
        "[Most of the effort|Half of the trouble|Much of the delay] with {subject} comes from [unclear ownership|missing facts|late decisions], not from a lack of [tools|ideas|talent].",
        "[Read this with|Keep beside you] {place}: the points on {keyword} are [easiest|best] checked against a real case.",
    ),
    "expert": (
        "[Anyone who|Whoever] has worked on {subject} for long knows that the [interesting|hard] questions [appear|begin] after the first success.",
        "[The literature|Common advice] on {subject} [tends to|likes to] [stop|end] where {keyword} should become [specific|measurable].",
        "[Two|Three] variables explain [most|much] of the spread in results around {subject}: [timing|quality of input|feedback speed] and {keyword}.",
    ),
}  # fmt: skip
TONE_WORDS = {
    "friendly": ("friendly", "casual", "warm", "conversational", "playful", "light", "humorous", "approachable", "cheerful", "personal"),
    "formal": ("formal", "professional", "serious", "authoritative", "neutral", "official", "academic", "business"),
    "inspiring": ("inspir", "motivat", "enthusias", "bold", "visionary", "encourag", "optimistic"),
    "expert": ("expert", "technical", "analytical", "in-depth", "precise", "critical", "detailed"),
}  # fmt: skip

INTRODUCTIONS = (
    "[Few subjects|Not many questions] come up as [often|reliably] among {audience} as {subject}.",
    "[For|Among] {audience}, the talk about {subject} [often starts|usually begins] with a [complaint|missed date|small success] and ends with a [to-do list|promise|shrug].",
    "[Ask|Put the question to] {few} [colleagues|people] about {subject} and you will hear {few} [different|confident] answers.",
    "[The first thing|What] {audience} [notice|mention|remember] about {subject} is how [quickly|quietly] [work on|concern for] {keyword} turns into [everybody's|nobody's] job.",
    "[There is no shortage|There is plenty] of advice on {subject}; what [is missing|lacks|helps] is an order in which to [take|use] it.",
    "[Over the past year|In recent months|Lately] [the question of|talk about] {keyword} has moved from the [margin|fine print] to the [centre|top] of every talk about {subject}.",
    "[It is tempting|It is easy] to treat {subject} as a [one-off project|matter of taste|task for later]; the [better|calmer] results come from [treating it as a routine|doing a little each week].",
)  # fmt: skip
ROAD_MAPS = (
    "We look at {keyword}, at [what tends to go wrong|the usual traps], and at [a routine|a plan] that fits into an ordinary week.",
    "The sections below [go from|lead from] {keyword} to [the daily work|everyday practice], and each [ends with|contains] something to [try|decide|write down].",
    "[By the end|After reading] you should be able to [explain|defend|sketch] your own approach to {subject} in [a page|five minutes|three sentences].",
    "[None of it|Nothing here] needs a large budget: [attention|patience|a calendar], {keyword} and [some honesty|a few hours] are enough.",
    "[Skip|Jump] to the part on {keyword} if you are in a hurry; the rest [explains|shows] why it [matters|is there].",
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    """One kind of section: its headings, its sentences, and the items of its list (if it has one)."""

    headings: tuple[str, ...]
    sentences: tuple[str, ...]
    items: tuple[str, ...] = ()
    numbered: bool = False


SECTIONS = (
    Section(
        ("Where {subject} [begins|starts]", "[What is really at stake|The starting point]", "Why to [begin|start] with {keyword}"),
        (
            "[Behind every|Underneath a] discussion of {subject} lies a plain question: [who benefits|what changes for whom|what happens if nothing is done]?",
            "Work on {keyword} [rarely|seldom] fails because of bad will; it fails because [two people|two departments] had [different pictures|different dates] in mind.",
            "A [single sentence|short note] on the purpose, kept in {place}, [prevents|replaces] [a dozen|many] later arguments.",
            "It [helps|pays] to [separate|keep apart] what is [known|measured] about {subject} from what is merely [assumed|repeated].",
            "{Role} [often|usually] sees first when {keyword} and [daily practice|the plan] drift apart.",
            "[Three|Two] of the {some} cases that we collected on {subject} began with a [misread|forgotten|late] message.",
            "[History|Habit] plays its part too: what was [sensible|cheap] {few} years ago can [slow down|distort] {keyword} today.",
        ),
    ),
    Section(
        ("[Preparing the ground|Before you begin|Groundwork]", "What to settle before {subject}", "[A little|Some] preparation"),
        (
            "[Set aside|Reserve] an hour on a {weekday} to [list|collect] everything that touches on {keyword}.",
            "[Gather|Collect] the {few} most recent examples and mark what they have [in common|taught you].",
            "[Decide|Agree] beforehand what would count as [enough|a success]; [afterwards|in hindsight] every result about {subject} looks [intended|obvious].",
            "If {role} cannot [explain|repeat] the goal in a minute, it is [not ready|too early] to [spend money|set dates].",
            "[Ask|Check] which [contracts|rules|promises] already cover {keyword}, since [reversing|undoing] them later is [costly|slow].",
            "[Nothing|Little] beats a [walk through|look at] one real case, from the first [call|message] to the final [invoice|thank-you].",
            "[Write down|Record] open questions about {subject} as they come; the list [shrinks|sorts itself] sooner than you think.",
        ),
        (
            "the goal, in one sentence that {role} would [sign|recognise]",
            "the people who [decide|know] about {keyword}, with a deputy",
            "what [already exists|was tried] around {keyword}, [with dates|good or bad]",
            "a budget in hours, not only in [money|licences]",
            "one number that shows whether {keyword} went [better|worse] than last month",
            "the date on which you will [stop and look|decide again]",
        ),
    ),
    Section(
        ("[Step by step|A simple sequence|The work, in order]", "A [plan|path] for the first {few} weeks", "From [idea|intention] to routine"),
        (
            "[The order|The sequence] matters more than the [speed|tools]: {subject} [punishes|forgives] few shortcuts.",
            "Each step [below|here] fits into [a morning|an afternoon|a day] and leaves something [visible|that can be shown].",
            "[Do not|Resist the urge to] [start|work on] two steps at once; {keyword} will need [undivided|quiet] attention.",
            "[After|Following] the last step, go back to the first: the second round through {subject} takes [half|a third of] the time.",
            "[Where|Whenever] a step feels [too large|vague], [split it|hand half of it] to {role}.",
        ),
        (
            "[Describe|Sketch] the present state of {keyword} in [ten lines|half a page].",
            "[Choose|Pick] one case that is [typical|small] and [has a deadline|matters to somebody].",
            "[Try|Test] the change with {role} on a {weekday}, not with everybody.",
            "[Compare|Set] the outcome [with|against] what you had [expected|written down].",
            "[Tell|Show] {audience} what you [learnt|found], including what [failed|surprised you].",
            "[Fix|Enter] the next review of {keyword} in {place}.",
            "[Drop|Strike out] whatever nobody [missed|asked for].",
        ),
        numbered=True,
    ),
    Section(
        ("[Mistakes|Traps] that cost the most", "[What goes wrong|Where it fails]", "[Common|Expensive] errors with {subject}"),
        (
            "[Most|Nearly all] setbacks with {subject} are [boring|unspectacular]: a name missing, a date unsaid, a file in the wrong [place|version].",
            "[The costliest|The worst] error is to [copy|borrow] another team's {keyword} without its [reasons|context].",
            "[Almost as common|Close behind]: [measuring|counting] what is easy and calling it {keyword}.",
            "[Watch out|Be careful] when everyone agrees [too quickly|at once]; somebody in the room usually [doubts|knows better].",
            "[A warning sign|One signal] is the [growing|swelling] number of exceptions around {keyword}, each of them [reasonable|small].",
            "[When|If] {role} starts keeping a private list, the official one has [stopped working|lost its readers].",
        ),
        (
            "**[Too much at once|Starting everywhere].** [Limit|Restrict] the first round of {subject} to [one product|one group|one month].",
            "**[No owner|Shared ownership].** [Give|Assign] {keyword} to one name, [even if|although] ten people help.",
            "**[Silence|Late news].** [Report|Share] what you know about {keyword} each {weekday}, even if it is little.",
            "**[Perfect tools|Buying first].** [A spreadsheet|Paper] is enough until {some} cases have gone through.",
            "**[No end date|Open ends].** What has no end is [never reviewed|quietly abandoned].",
        ),
    ),
    Section(
        ("How to [tell|know] that it works", "[Measuring|Reading] {keyword}", "[Numbers|Signals] worth watching"),
        (
            "[Two|Three] figures are enough for {subject}; [a dozen|twenty] are a [decoration|way of hiding].",
            "[Look|Check] at the [median|trend] rather than the [average|best day], since one [outlier|holiday] bends everything.",
            "A change of less than {percent} percent in {keyword} is, in most [teams|months], [noise|weather].",
            "[Ask|Interview] {few} of {audience} each quarter: their [words|stories] explain what the figures on {keyword} [cannot|only hint at].",
            "[Keep|Store] the [old|first] figures; [next year|in twelve months] they will be the only [proof|comparison] you have.",
            "[If|Should] a number on {keyword} never changes what anybody does, [stop collecting|drop] it.",
        ),
        (
            "time from [request|first contact] to [answer|result], in [days|hours]",
            "[share|number] of cases that needed a second [attempt|look]",
            "how many of {audience} [come back|recommend it] unasked",
            "hours spent on {keyword} [per week|per case]",
            "[questions|complaints] about {keyword} in {place}",
        ),
    ),
    Section(
        ("An example from [practice|the field|ordinary life]", "How one team [went about it|did it]", "A case of {some} people"),
        (
            "[Consider|Take] a team of {some} that had [talked|argued] about {subject} for [a year|two quarters] without [moving|deciding].",
            "[On a|One] {weekday} {role} printed the last {many} cases, [spread|laid] them on a table and [sorted|grouped] them by {keyword}.",
            "[Two piles|A pattern] emerged [within the hour|before lunch], and [most of the debate|half the agenda] about {subject} [was over|became pointless].",
            "They [changed|moved] only one thing: they [checked|discussed] {keyword} before, [not after|instead of after], the [hand-over|first reply].",
            "[Within|After] {few} weeks the number of [reworked|late|disputed] cases [fell|dropped] by about {percent} percent.",
            "[Nobody|No one] called it a [breakthrough|transformation]; it was [simply|just] {subject} done [on purpose|in daylight].",
            "The [lesson|moral] they [drew|wrote down] in {place} was short: [look first|count first], [talk later|buy later].",
        ),
    ),
    Section(
        ("[Who does what|Roles and time]", "[People|Hands] before tools", "Sharing the work on {subject}"),
        (
            "[Work|Effort] on {subject} [works out|goes well] when one person [decides|owns the result] and [several|many] are [heard|asked].",
            "{Role} can [prepare|collect] the facts on {keyword}; the [decision|choice] belongs to whoever [pays|answers] for it.",
            "[Plan|Reckon with] about {few} hours a week in the first [month|{few} weeks], and [half of that|much less] later.",
            "[Rotate|Pass on] the [dull|repetitive] parts every {few} weeks, so that knowledge of {keyword} [spreads|does not sit with one person].",
            "[A deputy|A stand-in] is not a luxury: [holidays|sick days] are when {keyword} will [suffer|slip].",
            "[Outside help|A consultant] is [worth it|useful] for {subject} if [the question|the brief] fits on one page.",
        ),
    ),
    Section(
        ("What it [costs|takes]", "[Time, money and patience|Budget and effort]", "The price of {keyword}"),
        (
            "[Money|The budget] is [seldom|rarely] the bottleneck in {subject}; what runs out is [attention|patience|calm].",
            "A [first round|trial] with {keyword} [fits|can be done] in {some} hours, [spread over|across] {few} weeks.",
            "[Licences|Subscriptions] for {keyword} look [cheap|small] per head and [dear|large] per year: [multiply|do the sum] before you sign.",
            "[Hidden|Quiet] costs sit in [hand-overs|corrections|waiting], which no invoice [shows|mentions].",
            "[Saving|Cutting] {percent} percent of the [effort|hours] is realistic, [promising|claiming] more [invites|earns] distrust.",
            "[Compare|Weigh] the price with the cost of [doing nothing|another year] as it is; for {subject} that is [often|usually] the larger figure.",
        ),
    ),
    Section(
        ("[Tools and helpers|Choosing tools]", "Do you need [software|a new tool] for {subject}?", "[Light|Simple] tools for {keyword}"),
        (
            "[Begin|Start] with what is [installed|at hand]: {place} [carries|covers] the first {many} cases of {keyword}.",
            "[Buy|Choose] a tool for {subject} only [after|once] you can name the [step|minute] that it [saves|replaces].",
            "[Export|Getting data out] matters more than [import|looks]: [one day|sooner or later] you will [leave|switch].",
            "[Try|Test] with your [messiest|oldest] example of {keyword}, not with the [vendor's|demo] one.",
            "[Automation|A script] is a [fine servant|good second step]; [automating|speeding up] a [muddle|mess] only makes {keyword} [faster wrong|wrong sooner].",
            "[Training|Practice] beats features: {audience} use [a third|a fraction] of what they [have|own].",
        ),
    ),
    Section(
        ("Questions that [come up|people ask]", "[Short answers|Frequently asked]", "[What readers ask|Three questions] about {subject}"),
        (
            "**How long until work on {keyword} [shows results|pays off]?** [Usually|As a rule] {few} to {some} weeks; [sooner|faster] if somebody [has the time|decides quickly].",
            "**[Is it worth it|Does this pay] for {audience}?** [Yes|In most cases], provided that {keyword} will come up [more than once a month|regularly].",
            "**What if the [boss|client|committee] is not convinced?** [Show|Bring] one [finished case|real example]; [arguments|slides] about {subject} [rarely|seldom] change minds.",
            "**Can we [start|begin] without a budget?** The [first|early] steps of {subject} cost [hours|attention], not [money|licences].",
            "**Who should [not|never] do it?** Anybody who is [measured|judged] on the opposite of {keyword}.",
            "**How do we keep it [alive|going]?** [Tie|Link] {keyword} to something that happens anyway, such as {place} on {weekday}.",
        ),
    ),
    Section(
        ("[Keeping it alive|Making it last]", "[After the first success|The second month]", "From project to habit"),
        (
            "[Enthusiasm|Novelty] for {subject} [fades|wears off] after about {few} weeks; [routines|dates] do not.",
            "[Put|Anchor] {keyword} into {place}, where it is [seen|read] [anyway|without reminders].",
            "[Celebrate|Mention] [small|quiet] progress by name: {role} will [remember|repeat] it.",
            "[Once|Twice] a year, ask what you would [stop|leave out] if you [began|started] with {subject} today.",
            "[Newcomers|New colleagues] are the [best test|honest critics]: if they [understand|follow] {keyword} on day {few}, it is [well explained|sound].",
            "[Archive|Keep] old decisions on {subject} with their [reasons|dates], so that they are [revised|questioned] rather than [repeated|forgotten].",
        ),
    ),
    Section(
        ("A [checklist|short list] to take away", "[Ready to go|On one page]", "The [essentials|bare minimum] of {subject}"),
        (
            "[Print|Copy] this list, [cross out|strike] what does not [apply|fit], and [pin|keep] the rest near {place}.",
            "[It covers|These points cover] [most|nine tenths] of what {audience} [need|look up] about {subject}.",
            "[Anything|Whatever] beyond it [can wait|belongs into round two].",
        ),
        (
            "{Keyword}: in the hands of one person, [reviewed|looked at] every {few} weeks",
            "[A definition|One line] of what [done|good] means for {keyword}",
            "[Two|Three] figures, [updated|read] each {weekday}",
            "A place for [questions|complaints] on {keyword}, and [somebody who answers|a reply within {few} days]",
            "[A date|An alarm] for the next look at {keyword}",
            "[A note|One paragraph] on what was [tried and dropped|learnt] so far",
        ),
    ),
    Section(
        ("What the [critics|doubters] say", "[Limits and doubts|Fair objections]", "When [not to|to wait]"),
        (
            "[Sceptics|Critics] of {subject} have a point: [not everything|hardly anything] that can be [planned|counted] [should be|matters].",
            "[For|With] fewer than {some} cases a year, {keyword} can be [better|more cheaply] handled by [memory|goodwill].",
            "[There are|One meets] [seasons|weeks] in which {audience} should leave {subject} [alone|for later]: [a move|a merger|year-end] is [one of them|the classic].",
            "[Beware|Mind] of advice on {keyword} that [fits|flatters] [everyone|every budget]; this article [included|is no exception].",
            "[Fair|Honest] doubt is [useful|cheap]: [invite|ask] {role} to argue against {keyword} before you [commit|sign].",
            "[The strongest|A serious] objection is [fatigue|timing], and it is [answered|met] by doing less, [not louder|but on time].",
        ),
    ),
    Section(
        ("[Looking ahead|What comes next]", "{Keyword} in the [coming|next] [months|quarters]", "[Trends|Shifts] around {subject}"),
        (
            "[Expect|Reckon with] more [questions|rules] about {keyword}, [from customers|from partners] first and from [auditors|regulators] later.",
            "[What used to be|What was] an [advantage|extra] in {subject} is [becoming|turning into] the [entry ticket|norm].",
            "[Teams|Firms] that [share|publish] how they handle {keyword} [find|attract] [partners|applicants] more easily.",
            "[Tools|Prices] will change [twice|again] before your next [plan|contract]; [principles|habits] around {subject} will not.",
            "[The gap|The distance] between those who [practise|track] {keyword} and those who [talk about|postpone] it [widens|grows] each [year|season].",
            "[A modest|A fair] forecast: in {few} years {audience} will [wonder|ask] why {keyword} could ever be [forgotten|left to chance].",
        ),
    ),
)  # fmt: skip

KEYWORD_SENTENCES = (
    "[The matter|The question] of {keyword} [deserves|needs] [a line|a paragraph] of its own: it [links|ties] {subject} to what {audience} [see|pay for].",
    "[In|Within] the [wider|larger] picture of {subject}, [work on|care for] {keyword} is the [lever|piece] that [moves|answers] [soonest|first].",
    "[Treat|Regard] {keyword} as a [promise|contract] with {audience}, and much of {subject} [falls into place|explains itself].",
    "[Whoever|Anyone who] [neglects|skips] {keyword} will meet it again, [later|in a hurry] and [at a higher price|with less choice].",
    "[The link|The thread] between {keyword} and {subject} is [easy to miss|rarely drawn], [yet|although] it [decides|shapes] the result.",
)  # fmt: skip

CONCLUSION_HEADINGS = ("[Conclusion|In short|To sum up]", "[What to do on Monday|The next step|Your next move]", "[Closing thoughts|The bottom line]")  # fmt: skip
CONCLUSIONS = (
    "[There is no secret|There is nothing mysterious] to {subject}: [look closely|choose one case], [act once|try it] and [write down|keep] what you [learn|see].",
    "[Begin|Start] with {keyword} this [week|{weekday}], and let the rest [follow|wait its turn].",
    "[If|When] {audience} [remember|keep] one thing about {subject}, [let it be|may it be] this: [a small step with a date|a named owner] beats a [grand plan|perfect tool].",
    "[The next|Your] {few} weeks will [tell|show] more about {keyword} than any [article|report] can.",
    "[Good|Steady] work on {subject} is [quiet|unhurried], [visible|honest] and [never quite finished|open to correction].",
    "[Come back|Return] to these notes in a [month|quarter] and see which [point|line] about {keyword} has [aged|grown] best.",
)  # fmt: skip
