// `iptnative train`: prompt tuning from a run file.
using System.CommandLine;
using System.Text.Encodings.Web;
using System.Text.Json;
using IptNative.Cli.Terminal;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Training;

namespace IptNative.Cli.Commands;

internal static class TrainCommand
{
    public static Command Create()
    {
        var file = new Argument<string>("run") { Description = "The run's options as JSON, for example examples/quickstart.json." };
        var set = new Option<string[]>("--set") { Description = "Changes an option: --set optimizer.learning_rate=0.1; may be given several times.", DefaultValueFactory = _ => [] };
        var resume = new Option<bool>("--resume") { Description = "Goes on with the run in the output folder; starts it where there is none." };
        var runs = new Option<int?>("--runs") { Description = "Seeds trained side by side in one batch, with mean and standard deviation; short for --set training.runs=N." };
        var activations = new Option<string?>("--activations") { Description = "What is kept for the backward pass: blocks, sublayers, full or auto; short for --set activations=WORD." };
        var forward = new Option<string?>("--forward") { Description = "Who computes the forward pass: ort, native or auto; short for --set forward=WORD." };
        var compute = new Option<string?>("--compute") { Description = "What the frozen model's products multiply in training: f32 or bf16; short for --set compute=WORD." };
        var weights = new Option<string?>("--weights") { Description = "Where the frozen weights are: resident, mapped, streamed or auto; short for --set weights=WORD." };
        var budget = new Option<string?>("--memory-budget") { Description = "Memory that training steps may take, for example 6GiB: the fastest settings that fit are taken; short for --set memory_budget=SIZE." };
        var output = new Option<string?>("--output") { Description = "The run folder; short for --set output=DIR." };
        var device = new DeviceOption();
        var options = new Option<bool>("--options") { Description = "Lists every option with its default and stops." };
        var asJson = new Option<bool>("--json") { Description = "The result as one JSON object instead of a table; the same as result.json in the run folder." };
        var command = new Command("train", "Tune soft prompts on a frozen T5 and score them.") { file, set, resume, runs, activations, forward, compute, weights, budget, output, device, options, asJson };
        file.Arity = ArgumentArity.ZeroOrOne;
        command.WithExamples(
            "iptnative train examples/quickstart.json",
            "iptnative train examples/quickstart.json --runs 5 --set prompt.length=20 --output runs/long",
            "iptnative train my-run.json --resume",
            "iptnative train --options");
        command.SetRun((parsed, cancel) =>
        {
            if (parsed.GetValue(options))
            {
                ListOptions();
                return ExitCode.Done;
            }
            string path = parsed.GetValue(file) ?? throw new UsageException("train: no run file was given, expected one, for example examples/quickstart.json. 'iptnative train --options' lists what it may hold.");
            var overrides = new List<string>(parsed.GetValue(set)!);
            Add("training.runs", parsed.GetValue(runs)?.ToString(System.Globalization.CultureInfo.InvariantCulture));
            Add("activations", parsed.GetValue(activations));
            Add("forward", parsed.GetValue(forward));
            Add("compute", parsed.GetValue(compute));
            Add("weights", parsed.GetValue(weights));
            Add("memory_budget", parsed.GetValue(budget));
            Add("output", parsed.GetValue(output));
            // Where it was not given, the run file's word counts.
            if (parsed.GetResult(device) is { Implicit: false })
                Add("device", device.Of(parsed).ToString());
            RunConfig config = RunConfig.Load(path, overrides);
            using var display = new TrainingDisplay(Console.Error, DisplayOptions.OfConsole());
            // A token is answered in milliseconds, a micro-batch of a large model takes a while.
            using CancellationTokenRegistration soon = cancel.Register(() => display.Say("stopping: what is computed now is finished or dropped, then a checkpoint is saved. Ctrl+C again ends at once."));
            TrainRunReport report;
            ProgressLine? scoring = null;
            try
            {
                report = TrainRun.Execute(config, parsed.GetValue(resume), display, display.Say, cancel, (done, total) =>
                {
                    scoring ??= new ProgressLine("scoring");
                    scoring.Report(done, total);
                });
            }
            catch (OperationCanceledException)
            {
                scoring?.Clear();
                return ExitCode.Report($"interrupted. Nothing is lost: the same command with --resume goes on with the run in {config.Output}.", ExitCode.Interrupted);
            }
            finally
            {
                scoring?.Dispose();
            }
            using TextWriter terminal = StandardOutput.Open();
            if (parsed.GetValue(asJson))
                WriteJson(terminal, report.Result);
            else
                WriteTable(terminal, report);
            return report.Outcomes.All(o => o.Stopped == StopReason.NonFinite)
                ? ExitCode.Report("train: no run stayed finite, see above where each stopped. Lower optimizer.learning_rate and give another --output.", ExitCode.Failed)
                : ExitCode.Done;

            void Add(string key, string? value)
            {
                if (value is not null)
                    overrides.Add($"{key}={value}");
            }
        });
        return command;
    }

    private static void ListOptions()
    {
        using TextWriter output = StandardOutput.Open();
        foreach (OptionHelp option in RunConfig.Describe())
            output.WriteLine($"{option.Name,-36} {option.Default,-14} {option.Help}");
    }

    private static void WriteTable(TextWriter output, TrainRunReport report)
    {
        RunResult result = report.Result;
        IReadOnlyList<TaskSummary> summaries = result.Summarise();
        string[] tasks = [.. summaries.Select(s => s.Task).Distinct(StringComparer.Ordinal)];
        int width = Math.Max(24, tasks.DefaultIfEmpty("").Max(t => t.Length) + 2);
        output.WriteLine($"{"task".PadRight(width)}{"runs",5}{"dev",16}{"test",16}{"majority",10}{"untuned",9}{"untuned [task]",16}");
        foreach (string task in tasks)
        {
            output.WriteLine($"{task.PadRight(width)}{summaries.First(s => s.Task == task).Runs,5}{Spread(task, "dev"),16}{Spread(task, "test"),16}"
                + $"{Base(task, "majority"),10}{Base(task, "untuned"),9}{Base(task, "untuned_with_prefix"),16}");
        }
        output.WriteLine($"{result.TrainSeconds:0.0} s of training, {result.PeakBytes / 1e6:0} MB peak memory; prompts, log and predictions are in {report.Folder}");

        string Spread(string task, string split) => summaries.FirstOrDefault(s => s.Task == task && s.Split == split) is not { } s ? "-"
            : s.StandardDeviation is { } deviation ? $"{s.Mean:0.000} ± {deviation:0.000}" : $"{s.Mean:0.000}";

        string Base(string task, string name) => result.Baselines.FirstOrDefault(b => b.Task == task && b.Name == name) is { } b ? $"{b.Score.Score:0.000}" : "-";
    }

    private static void WriteJson(TextWriter output, RunResult result)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
            result.Write(json);
        output.WriteLine(System.Text.Encoding.UTF8.GetString(buffer.ToArray()));
    }
}
