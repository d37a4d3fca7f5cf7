//! The style sheet.

use crate::svg::palette::{Theme, rules, variables};

/// Light, dark where the reader asks for it, light again on paper.
pub(super) fn sheet() -> String {
    let (light, dark) = (variables(Theme::Light), variables(Theme::Dark));
    format!(
        ":root{{color-scheme:light dark;{light}}}\n\
         @media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n\
         {SCREEN}{}{PRINT}",
        rules()
    )
}

const SCREEN: &str = "\
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,'Segoe UI',Roboto,'Liberation Sans',Arial,'DejaVu Sans',sans-serif}
main{max-width:1180px;margin:0 auto;padding:24px 20px 48px}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 16px;overflow-wrap:anywhere}
h2{font-size:1.3rem;line-height:1.3;margin:44px 0 12px;padding-bottom:4px;border-bottom:1px solid var(--rule)}
h3{font-size:1rem;line-height:1.4;margin:0 0 4px;overflow-wrap:anywhere}
p{margin:0 0 8px;max-width:80ch;overflow-wrap:anywhere}
a{color:inherit;text-underline-offset:2px}
code,.a{font-family:ui-monospace,'SF Mono',Menlo,Consolas,'Liberation Mono','DejaVu Sans Mono',monospace;font-size:.875em}
code{overflow-wrap:anywhere}
.defs{position:absolute}
.hatch{stroke:var(--hatch);stroke-width:1.4;fill:none}
p.over{color:var(--soft);margin:0}
p.verdict{padding:12px 16px;border-left:6px solid;border-radius:4px;max-width:none;margin:0 0 16px}
p.verdict strong{font-size:1.5rem;letter-spacing:.03em;margin-right:10px}
p.verdict span{color:var(--ink)}
p.verdict.good{background:var(--good-panel)}p.verdict.bad{background:var(--bad-panel)}p.verdict.doubt{background:var(--doubt-panel)}
.good{color:var(--good)}.bad{color:var(--bad)}.doubt{color:var(--doubt)}.quiet{color:var(--soft)}
td.good,td.bad,td.doubt{font-weight:600}
dl.facts{display:grid;grid-template-columns:max-content 1fr;gap:4px 20px;margin:0 0 16px}
dl.facts dt{color:var(--soft)}
dl.facts dd{margin:0;overflow-wrap:anywhere}
nav{display:flex;flex-wrap:wrap;gap:4px 18px}
.findings article{border:1px solid var(--rule);border-left:6px solid var(--edge);border-radius:4px;background:var(--panel);color:var(--ink);padding:12px 16px;margin:0 0 12px}
.findings article.bad{border-left-color:var(--bad)}
.findings article.doubt{border-left-color:var(--doubt)}
.findings .id{display:inline-block;border:1px solid;border-radius:3px;padding:0 6px;margin-right:6px;font-size:.875rem}
.findings .bad .id{color:var(--bad)}.findings .doubt .id{color:var(--doubt)}.findings .quiet .id{color:var(--soft)}
.findings .conf,.findings .under,.findings .links{color:var(--soft)}
.findings p{max-width:90ch}
.findings p:last-child{margin-bottom:0}
ul.ranges{list-style:none;margin:4px 0 8px;padding:0}
details{margin:8px 0}
summary{cursor:pointer;color:var(--soft);padding:4px 0}
summary:focus-visible,a:focus-visible,.scroll:focus-visible{outline:2px solid var(--edge);outline-offset:2px}
ul.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 20px;margin:0 0 16px;padding:0;font-size:.875rem}
ul.legend svg{vertical-align:-2px}
figure{margin:0 0 28px;padding:14px 16px 8px;border:1px solid var(--rule);border-radius:4px}
figcaption{margin:0 0 12px}
figcaption code{color:var(--soft)}
svg.wide,svg.narrow{display:block;width:100%;height:auto;font-family:'Liberation Sans',Arial,Helvetica,'DejaVu Sans',sans-serif}
svg.narrow{display:none}
rect.ground{fill:var(--ground)}
rect.cut{fill:var(--page);stroke:var(--edge);stroke-width:.8;stroke-dasharray:2 2}
rect.b{stroke:var(--edge);stroke-width:.6}
rect.h{pointer-events:none}
line.tick{stroke:var(--edge)}
line.leader{stroke:var(--ink);stroke-width:1}
line.guide{stroke:var(--soft);stroke-width:1;stroke-dasharray:2 2}
text{fill:var(--ink)}
text.n,text.k{fill:var(--soft)}
text.t{fill:var(--ink);font-weight:400;font-style:normal}
text.i{paint-order:stroke;stroke-width:4;stroke-linejoin:round;pointer-events:none}
text.m{fill:var(--soft)}
.scroll{overflow-x:auto;margin:0 0 12px}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding:0 0 4px}
caption span{display:inline-block;position:sticky;left:0;max-width:min(90ch,calc(100vw - 48px))}
th,td{text-align:left;vertical-align:top;padding:4px 16px 4px 0;border-bottom:1px solid var(--rule)}
th{font-weight:600;white-space:nowrap;font-family:inherit;font-size:inherit}
th.r,td.r{text-align:right;white-space:nowrap}
td.a{white-space:nowrap;font-size:.8125rem}
th.a{font-family:inherit;font-size:inherit}
td.x{max-width:44ch;overflow-wrap:break-word}
p.note{font-size:.875rem;color:var(--soft)}
ol.line{list-style:none;margin:0 0 20px 8px;padding:0;border-left:3px solid var(--rule)}
ol.line>li{position:relative;padding:0 0 16px 24px;color:var(--ink)}
ol.line>li::before{content:'';position:absolute;left:-9px;top:5px;width:15px;height:15px;border-radius:50%;border:3px solid var(--edge);background:var(--page)}
ol.line>li.good::before{border-color:var(--good);background:var(--good)}
ol.line>li.doubt::before{border-color:var(--doubt);border-style:double}
ol.line>li.bad::before{border-color:var(--bad);border-radius:0;background:var(--bad)}
ol.line p{margin:0}
ol.line ul{margin:4px 0 0;padding-left:20px}
ul.tree{list-style:none;margin:0 0 0 4px;padding:0 0 0 16px;border-left:1px solid var(--rule);font-size:.875rem}
ul.tree details{margin:0}
ul.tree summary{color:var(--ink)}
.tables>summary{color:var(--ink);font-weight:600}
footer{margin-top:48px;padding-top:12px;border-top:1px solid var(--rule);color:var(--soft);font-size:.875rem}
@media screen and (max-width:700px){
main{padding:16px 14px 32px}
h1{font-size:1.4rem}
svg.wide{display:none}svg.narrow{display:block}
figure{padding:10px 8px 4px}
dl.facts{grid-template-columns:1fr;gap:0}
dl.facts dd{margin:0 0 8px}
p.verdict strong{display:block}
th,td{padding-right:12px}
th{white-space:normal}
}
";

const PRINT: &str = "\
@media print{
caption span{max-width:none}
@page{margin:14mm}
body{font-size:10pt}
main{max-width:none;padding:0}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
nav,summary::marker{display:none}
details::details-content{content-visibility:visible;height:auto}
details:not([open])>*:not(summary){display:block}
.scroll{overflow:visible}
table{font-size:7.5pt;max-width:100%}
th{white-space:normal}
td.a{font-size:7pt}
th,td{padding:2px 8px 2px 0}
tr,figure svg,article,ol.line>li{break-inside:avoid}
h2,h3,figcaption{break-after:avoid}
figure{border:0;padding:0}
a{text-decoration:none}
}
";
