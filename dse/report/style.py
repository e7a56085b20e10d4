"""The report's style sheet. Colours that figures use are variables, so that figures follow the reader's scheme."""

LIGHT = """--page:#fff;--card:#fff;--ink:#17202c;--muted:#566272;--faint:#8d97a5;
--line:#c9d0d9;--grid:#e6e9ee;--accent:#1d5fb4;--soft:#e8f0fb;--good:#11703f;--bad:#b3261e;--star:#ffc933"""
"""Colours on paper."""

CSS = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#17202c;--muted:#566272;--faint:#8d97a5;
--line:#c9d0d9;--grid:#e6e9ee;--accent:#1d5fb4;--soft:#e8f0fb;--good:#11703f;--bad:#b3261e;--star:#ffc933}
@media (prefers-color-scheme:dark){:root{--page:#0f1319;--card:#181e27;--ink:#e8ecf2;--muted:#a7b1bf;
--faint:#788494;--line:#3a4452;--grid:#2a323d;--accent:#7db2f5;--soft:#1d2b40;--good:#5fcf95;--bad:#ff8d84;--star:#ffd24d}}
:root.paper{color-scheme:light;LIGHT}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif}
main,header>div,footer{max-width:1160px;margin:0 auto;padding:0 20px}
header{background:var(--card);border-bottom:1px solid var(--line);padding:34px 0 0}
.kicker{margin:0;color:var(--accent);font-size:13px;font-weight:650;letter-spacing:.08em;text-transform:uppercase}
h1{margin:.1em 0 .25em;font-size:34px;line-height:1.2;letter-spacing:-.015em}
h2{margin:0 0 .5em;font-size:23px;line-height:1.25;letter-spacing:-.01em}
h3{margin:1.5em 0 .5em;font-size:17px;line-height:1.3}
.lede{margin:0 0 18px;max-width:78ch;font-size:17px;color:var(--muted)}
nav ul{display:flex;flex-wrap:wrap;gap:2px 22px;list-style:none;margin:18px 0 0;padding:0}
nav a{display:block;padding:9px 0;color:var(--ink);text-decoration:none;font-size:15px;
border-bottom:2px solid transparent}
nav a:hover{border-color:var(--accent)}
a{color:var(--accent)}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px;border-radius:3px}
section.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:24px 26px;margin:22px 0;
scroll-margin-top:12px}
p{margin:.5em 0;max-width:92ch}
.note{max-width:100ch;color:var(--muted);font-size:14.5px}
dl.facts{display:grid;grid-template-columns:max-content 1fr;gap:3px 18px;margin:0;font-size:14.5px}
dl.facts dt{color:var(--muted)}
dl.facts dd{margin:0;min-width:0;overflow-wrap:anywhere}
.design-name{margin:.2em 0;font-size:25px;line-height:1.3;font-weight:650;letter-spacing:-.01em}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(158px,1fr));gap:12px;margin:18px 0;padding:0;
list-style:none}
.tiles li{background:var(--soft);border-radius:10px;padding:12px 14px}
.tiles b{display:block;font-size:21px;line-height:1.3;font-variant-numeric:tabular-nums}
.tiles span{font-size:13.5px;color:var(--muted);display:block;line-height:1.35}
.badge{background:var(--accent);color:var(--card);border-radius:99px;padding:1px 9px;font-size:12px;font-weight:650;
white-space:nowrap}
.good{color:var(--good)}.bad{color:var(--bad)}
.alarm{border-left:4px solid var(--bad);padding:2px 0 2px 14px}
.scroll{overflow:auto;margin:16px 0;border:1px solid var(--line);border-radius:9px}
.scroll.tall{max-height:620px}
table{border-collapse:collapse;width:100%;font-size:14.5px;line-height:1.4}
caption{text-align:left;padding:9px 12px;font-weight:650;position:sticky;left:0}
caption.quiet{position:absolute;width:1px;height:1px;padding:0;overflow:hidden;clip-path:inset(50%)}
th,td{padding:7px 12px;text-align:left;vertical-align:top;border-top:1px solid var(--grid)}
thead th{color:var(--muted);font-weight:600;font-size:13px;vertical-align:bottom;background:var(--card);
border-top:1px solid var(--line)}
.tall thead th{position:sticky;top:0;z-index:1;box-shadow:0 1px 0 var(--line)}
tbody th{font-weight:400;min-width:150px}
td.long{min-width:150px}
tbody tr:hover{background:var(--soft)}
td.number{white-space:nowrap;font-variant-numeric:tabular-nums}
th small,td small{display:block;color:var(--muted);font-size:13px}
.design{min-width:265px}
.design a{text-decoration:none}.design a:hover{text-decoration:underline}
thead button{all:unset;cursor:pointer}
thead button:focus-visible{outline:2px solid var(--accent)}
thead button::after{content:" \\2195";opacity:.45}
[aria-sort=ascending] button::after{content:" \\2191";opacity:1}
[aria-sort=descending] button::after{content:" \\2193";opacity:1}
.bars{min-width:170px;white-space:nowrap;font-variant-numeric:tabular-nums}
.bar{display:inline-block;width:92px;height:9px;margin-right:9px;border-radius:5px;background:var(--grid);overflow:hidden;
print-color-adjust:exact;-webkit-print-color-adjust:exact}
.bar i{display:block;height:100%;background:var(--accent)}
figure{margin:14px 0 4px}
figcaption{margin-top:8px;color:var(--muted);font-size:14px;max-width:100ch}
.plot{width:100%}
.latencies{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:6px 22px}
.latencies>div{min-width:0}
.latencies h4{margin:8px 0 0;font-size:14.5px;font-weight:600}
.latencies h4 span{color:var(--muted);font-weight:400}
.pick{display:flex;flex-wrap:wrap;gap:8px 12px;align-items:center;margin:12px 0}
select{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:7px 10px;max-width:100%}
pre{overflow:auto;background:var(--page);border:1px solid var(--line);border-radius:9px;padding:12px 14px;
font-size:14px;line-height:1.45}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
summary{cursor:pointer;color:var(--accent)}
footer{color:var(--muted);font-size:14px;padding-bottom:34px}
@media (max-width:640px){main,header>div,footer{padding:0 12px}section.card{padding:16px 14px;border-radius:10px}
h1{font-size:27px}.design-name{font-size:20px}dl.facts{grid-template-columns:1fr}dl.facts dd{margin-bottom:7px}
.tiles{grid-template-columns:1fr 1fr}.design{min-width:200px}}
.csv{display:block;width:max-content;margin-left:auto;font-size:13px;padding:2px 0}
.drawing{max-width:460px;margin:22px auto}
.drawing svg{display:block;width:100%;height:auto;color:var(--muted)}
.drawing figcaption{text-align:center}
.drawing .d-title,.drawing .d-text{fill:var(--ink)}
.drawing .d-card,.drawing .d-end{fill:var(--card);fill-opacity:1;stroke:var(--line);stroke-opacity:1}
.drawing .d-client{fill:var(--soft);stroke:var(--line);stroke-opacity:1}
.drawing .d-chip{fill-opacity:1}
.k0{color:#2f7bd6}.k1{color:#d9620a}.k2{color:#0a9a70}.k3{color:#b457b0}
.k4{color:#a88a00}.k5{color:#1596ab}.k6{color:#d6455d}.k7{color:#77808e}
#short dl.facts{font-size:16px;gap:7px 20px}
#short dl.facts dt{font-weight:650}
@page{size:A4;margin:14mm 13mm}
.paper main,.paper header>div,.paper footer{max-width:690px;padding:0}
.paper section.card{padding:0}.paper .plot{overflow:hidden}
.paper .latencies{grid-template-columns:1fr 1fr}
@media print{nav,.pick,.csv,noscript,.modebar-container{display:none}
:root{color-scheme:light;LIGHT}
body{font-size:11.5px;line-height:1.42;background:#fff}
main,header>div,footer{max-width:none;padding:0}header{padding:0;border:0}
section.card{border:0;border-radius:0;padding:0;margin:20px 0}
#answer,#front,#spending,#outlook,#designs,#search{break-before:page}
h1{font-size:25px}h2{font-size:18px}h3{font-size:14px}.design-name{font-size:17px}.lede{font-size:13px}
dl.facts,#short dl.facts{font-size:11.5px;gap:4px 14px}.note,figcaption{font-size:10.5px}
.tiles{margin:10px 0;gap:7px}.tiles li{padding:7px 10px;print-color-adjust:exact;-webkit-print-color-adjust:exact}
.tiles b{font-size:15px}.tiles span{font-size:10.5px}
.scroll,.scroll.tall{overflow:visible;max-height:none;border:0;margin:10px 0}
table{font-size:9.5px;line-height:1.3}th,td{padding:4px 6px;overflow-wrap:break-word}caption{padding:4px 6px}
caption,thead th,.tall thead th{position:static;box-shadow:none}thead th{font-size:9px}
th small,td small{font-size:8.5px}thead button::after{content:""}
tbody th,td.long,.design,.bars{min-width:0}.bars{white-space:normal}.bar{width:44px}
.badge{background:none;color:var(--accent);padding:0;font-size:inherit}thead button{display:contents}
figure,tr,.tiles,.drawing,.latencies>div,dl.facts dd{break-inside:avoid}h2,h3,h4,caption{break-after:avoid}
thead{display:table-header-group}.drawing{max-width:330px}
pre{font-size:9px;white-space:pre-wrap;overflow-wrap:anywhere;overflow:visible}a{color:inherit;text-decoration:none}}
""".replace("LIGHT", LIGHT)
