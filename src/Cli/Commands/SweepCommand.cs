// `iptnative sweep`: one run file over a grid of options, resumable, in shards.
using System.CommandLine;
using IptNative.Cli.Terminal;
using IptNative.Tuning.Sweeps;
using IptNative.Tuning.Training;

namespace IptNative.Cli.Commands;

internal static class SweepCommand
{
    public static Command Create()
    {
        var file = new Argument<string>("sweep") { Description = "JSON with 'run' (a run file) and 'grid' (option: [values]); also 'set', 'x' and 'output'." };
        var set = new Option<string[]>("--set") { Description = "Changes an option of every point: --set training.steps=50; may be given several times.", DefaultValueFactory = _ => [] };
        var shard = new Option<string?>("--shard") { Description = "Only part i of n: --shard 2/8. Parts may run at once and write into one folder." };
        var output = new Option<string?>("--output") { Description = "Folder of the points and the table." };
        var list = new Option<bool>("--list") { Description = "Lists the points and stops." };
        var command = new Command("sweep", "Train one run over a grid of options; started again it goes on where it was.") { file, set, shard, output, list };
        command.WithExamples(
            "iptnative sweep examples/sweep-length.json",
            "iptnative sweep examples/sweep-length.json --shard 1/2 --output /shared/sweep & iptnative sweep examples/sweep-length.json --shard 2/2 --output /shared/sweep");
        command.SetRun((parsed, cancel) =>
        {
            SweepShard part;
            try
            {
                part = parsed.GetValue(shard) is { } text ? SweepShard.Parse(text) : SweepShard.Whole;
            }
            catch (ArgumentException e)
            {
                throw new UsageException($"--{e.Message}");
            }
            SweepPlan plan = SweepPlan.Load(parsed.GetValue(file)!, parsed.GetValue(output), parsed.GetValue(set)!);
            using TextWriter terminal = StandardOutput.Open();
            if (parsed.GetValue(list))
            {
                foreach (SweepPoint point in plan.Points.Where(part.Has))
                    terminal.WriteLine(point.Name);
                return ExitCode.Done;
            }
            SweepTable table = SweepRun.Execute(plan, part, point =>
            {
                using var display = new TrainingDisplay(Console.Error, DisplayOptions.OfConsole());
                TrainRun.Execute(point.Config, resume: true, display, display.Say, cancel);
            }, line => Console.Error.WriteLine($"iptnative: {line}"), cancel);
            WriteTable(terminal, plan, table);
            return ExitCode.Done;
        });
        return command;
    }

    private static void WriteTable(TextWriter output, SweepPlan plan, SweepTable table)
    {
        int[] widths = [.. plan.Axes.Select((a, i) => Math.Max(a.Length, table.Scores.Select(s => s.Values[i].Length).DefaultIfEmpty(0).Max()) + 2)];
        int task = Math.Max(6, table.Scores.Select(s => s.Task.Length).DefaultIfEmpty(0).Max() + 2);
        output.WriteLine($"{string.Concat(plan.Axes.Zip(widths, (a, w) => a.PadRight(w)))}{"task".PadRight(task)}{"split",-6}{"score",16}{"seeds",7}");
        foreach (SweepScore s in table.Scores)
            output.WriteLine($"{string.Concat(s.Values.Zip(widths, (v, w) => v.PadRight(w)))}{s.Task.PadRight(task)}{s.Split,-6}{(double.IsFinite(s.Deviation) ? $"{s.Mean:0.000} ± {s.Deviation:0.000}" : $"{s.Mean:0.000}"),16}{s.Runs,7}");
        output.WriteLine($"{table.Done} of {table.Points} points; table and figures are in {Path.Combine(plan.Folder, "sweep.csv")} and sweep.html");
    }
}
