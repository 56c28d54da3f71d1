"""How `report.html` looks: light and dark, desk and phone."""

STYLE = """
:root { color-scheme: light dark;
  --paper: #fbfbf9; --card: #fff; --ink: #1c2024; --soft: #5d656d; --line: #e3e4e0; --track: #e9eae6;
  --accent: #24618f; --right: #16794a; --wrong: #c2362b; --query: #8a929a; --warn: #8a5a00;
  --warn-paper: #fdf5e3;
  --c1: #24618f; --c2: #b4560f; --c3: #4d8a3f; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #15181b; --card: #1c2024; --ink: #e6e8ea; --soft: #9aa3ab; --line: #2e343a; --track: #2e343a;
  --accent: #7db5e0; --right: #4cbf86; --wrong: #f0746a; --query: #78828b; --warn: #e6b65c;
  --warn-paper: #262219;
  --c1: #7db5e0; --c2: #eb9a5b; --c3: #93c985; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%; }
main { max-width: 1080px; margin: 0 auto; padding: 56px 32px 96px; }
header { margin-bottom: 32px; } header p { color: var(--soft); margin: 0; }
h1 { font-size: 32px; line-height: 1.2; font-weight: 650; letter-spacing: -.015em; margin: 0 0 8px;
  overflow-wrap: anywhere; }
h2 { font-size: 20px; font-weight: 620; letter-spacing: -.005em; margin: 0 0 4px; }
h3 { font-size: 14px; font-weight: 600; margin: 0 0 8px; overflow-wrap: anywhere; }
h3 span { font-weight: 400; color: var(--soft); margin-left: 8px; }
p { margin: 0 0 12px; max-width: 76ch; text-wrap: pretty; }
code, pre { font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace; }
code { overflow-wrap: anywhere; }
section { margin-top: 56px; } .note { color: var(--soft); font-size: 14px; max-width: 96ch; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 16px; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 20px 22px; }
article h2 { font-size: 14px; font-weight: 550; color: var(--soft); letter-spacing: 0; }
article .note { margin: 0; } .big { font-size: 44px; line-height: 1.15; font-weight: 620;
  letter-spacing: -.025em; margin: 0 0 10px; }
article .bar { margin: 0 0 14px; width: 100%; }
.warning { background: var(--warn-paper); border-left: 3px solid var(--warn); border-radius: 0 8px 8px 0;
  padding: 14px 20px; margin: 0 0 24px; font-size: 14px; }
.warning h2 { font-size: 14px; color: var(--warn); } .warning ul { margin: 0; padding-left: 18px; }
.warning li { overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 12px 0 20px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap;
  font-weight: 400; vertical-align: middle; }
tbody th { white-space: normal; min-width: 6.5em; }
small { display: block; font-size: 13px; color: var(--soft); }
thead th { color: var(--soft); font-size: 13px; border-bottom-color: var(--query); }
th.n, td.n { text-align: right; padding: 7px 0 7px 14px; } strong { font-weight: 650; }
.bar { display: inline-block; position: relative; width: 120px; height: 6px; border-radius: 3px;
  background: var(--track); vertical-align: middle; }
.bar i { position: absolute; inset: 0 auto 0 0; border-radius: 3px; background: var(--accent); }
.bar b { position: absolute; top: -4px; width: 2px; height: 14px; margin-left: -1px; background: var(--ink); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 32px 40px;
  margin-top: 20px; }
.chart { margin: 0; display: flex; flex-direction: column; }
.chart figcaption { font-size: 14px; font-weight: 600; }
.chart > svg { width: 100%; height: auto; margin-top: auto; overflow: visible; }
.chart text { font-size: 11px; fill: var(--soft); } .grid { stroke: var(--line); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0 16px; margin: 2px 0 6px; padding: 0;
  font-size: 13px; color: var(--soft); } .legend b { color: var(--ink); font-weight: 550; }
.legend svg { width: 22px; height: 8px; margin-right: 6px; }
polyline, line.c1, line.c2, line.c3 { fill: none; stroke-width: 2; stroke-linejoin: round; }
.c1 { stroke: var(--c1); } .c2 { stroke: var(--c2); stroke-dasharray: 6 3; }
.c3 { stroke: var(--c3); stroke-dasharray: 2 3; } circle { fill: var(--card); stroke-width: 2; }
.keys { display: flex; flex-wrap: wrap; gap: 4px 20px; } .sample { display: inline-block; width: 14px;
  height: 14px; border: 3px solid var(--query); border-radius: 3px; margin: 0 7px -2px 0; }
.sample.right { border-color: var(--right); } .sample.wrong { border-color: var(--wrong); }
.list { margin: 20px 0 26px; }
.strip { display: flex; gap: 8px; overflow-x: auto; padding-bottom: 6px; }
.strip figure { margin: 0; flex: 0 0 auto; width: 80px; } .strip .query { position: sticky; left: 0;
  width: 96px; padding-right: 16px; background: var(--paper); }
.strip img { display: block; width: 80px; height: 148px; object-fit: cover; border: 4px solid var(--query);
  border-radius: 6px; background: var(--track); }
.right img { border-color: var(--right); } .wrong img { border-color: var(--wrong); border-style: solid; }
.strip figcaption { display: grid; grid-template-columns: auto 1fr; column-gap: 6px; font-size: 12px;
  line-height: 1.35; color: var(--soft); margin-top: 4px; }
.strip figcaption b { font-weight: 700; font-size: 13px; }
.right b { color: var(--right); } .wrong b { color: var(--wrong); }
.strip figcaption i { font-style: normal; grid-column: 2; } .query figcaption span { grid-column: 1 / -1; }
details { border-top: 1px solid var(--line); padding: 10px 0; } summary { cursor: pointer; font-weight: 550; }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 14px 16px; margin: 12px 0 0; }
@media (max-width: 640px) { main { padding: 28px 18px 64px; } h1 { font-size: 25px; }
  .big { font-size: 38px; } section { margin-top: 42px; } td .bar { width: 72px; }
  h3 span { display: block; margin: 0; }
  th, td { padding-right: 10px; } th.n, td.n { padding-left: 8px; }
  .strip figure, .strip img { width: 68px; } .strip img { height: 126px; } .strip .query { width: 80px;
  padding-right: 12px; } }
@media print { .scroll, .strip { overflow: visible; flex-wrap: wrap; } section { break-inside: avoid-page; } }
"""
