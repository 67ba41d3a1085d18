// `iptnative evaluate`: what a frozen T5 scores on a task, behind saved prompts or none. No training.
using System.CommandLine;
using System.Diagnostics;
using System.Text.Json;
using IptNative.Cli.Terminal;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Forward;
using IptNative.Model.Tokenizer;
using IptNative.Tasks.Data;
using IptNative.Tasks.Metrics;
using IptNative.Tuning.Data;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Memory;
using IptNative.Tuning.Prompts;

namespace IptNative.Cli.Commands;

internal static class EvaluateCommand
{
    private const string NoPrompt = "none";

    public static Command Create()
    {
        var defaults = new EncodingOptions();
        var evaluationDefaults = new EvaluationOptions();
        var model = new Option<string>("--model") { Description = "Package, checkpoint folder, weight file or Hub name.", Required = true };
        var task = new Option<string>("--task") { Description = "Task name in the gym given by --data, or the task's own folder.", Required = true };
        var data = new Option<string?>("--data") { Description = "Folder of a gym or of the task: CrossFit files, or train, dev, test as .tsv or .jsonl." };
        var prompt = new Option<string[]>("--prompt") { Description = "PEFT folder, .npy, .safetensors or .pt; 'none' is no prompt. A folder of several is all of them. Several are answered side by side.", Arity = ArgumentArity.OneOrMore, DefaultValueFactory = _ => [NoPrompt] };
        var split = new Option<string>("--split") { Description = "train, dev or test.", DefaultValueFactory = _ => "test" };
        var shots = new Option<int?>("--shots") { Description = "K of the K-shot sample; needed where the folder has several, or to draw one from full files." };
        var seed = new Option<int>("--seed") { Description = "Seed of the K-shot sample.", DefaultValueFactory = _ => 13 };
        var metric = new Option<string[]>("--metric") { Description = $"Metric: {string.Join(", ", Metric.Names)}. Without it gym.json's or the task's own.", Arity = ArgumentArity.OneOrMore };
        var label = new Option<string[]>("--label") { Description = "A label, in class order; without it gym.json's or the training split's.", Arity = ArgumentArity.OneOrMore };
        var casting = new Option<string?>("--casting") { Description = "Reads .jsonl records as this GLUE, SuperGLUE or SQuAD task." };
        var inputTemplate = new Option<string?>("--input-template") { Description = "Reads .jsonl records through a template such as 'question: {question} context: {passage}'." };
        var targetTemplate = new Option<string?>("--target-template") { Description = "Template of the answer, for example '{answers}'." };
        var prefix = new Option<bool>("--task-prefix") { Description = "Puts '[task] ' before every input." };
        var sentinel = new Option<bool>("--sentinel") { Description = "Answers start with <extra_id_0>, which is taken off." };
        var maxSource = new Option<int>("--max-source-length") { Description = "Most tokens of an input, the prompt not included.", DefaultValueFactory = _ => defaults.MaxSourceLength };
        var maxTarget = new Option<int?>("--max-target-length") { Description = "Most tokens of an answer; without it the longest gold answer's and a few more." };
        var beams = new Option<int>("--num-beams") { Description = "Beams of the search; 1 is greedy.", DefaultValueFactory = _ => evaluationDefaults.NumBeams };
        var limit = new Option<int?>("--limit") { Description = "Only the first N examples." };
        var baselines = new Option<bool>("--baselines") { Description = "Also the majority answer, and the model without a prompt, with and without the task's name." };
        var predictions = new Option<string?>("--predictions") { Description = "File to write every input, answer and gold answer to (tab-separated)." };
        var ensemble = new Option<bool>("--ensemble") { Description = "Also a majority vote of the prompts, ties by mean log probability; beside mean and best single." };
        var cost = new Option<bool>("--ensemble-cost") { Description = "Times the vote in one batch against the prompts one after another; answers everything twice." };
        var batch = new Option<int>("--batch-size") { Description = "Examples computed together; changes no answer.", DefaultValueFactory = _ => evaluationDefaults.BatchSize };
        Option<string> compute = ComputeOption.Create(), forward = ForwardOption.Create();
        var threads = new Option<int>("--threads") { Description = "CPU threads; 0 takes every core.", DefaultValueFactory = _ => 0 };
        var device = new DeviceOption();
        var asJson = new Option<bool>("--json") { Description = "One JSON object instead of a table." };
        var command = new Command("evaluate", "Score a frozen T5 on a task, with saved prompts or none.");
        foreach (Option option in (Option[])[model, task, data, prompt, split, shots, seed, metric, label, casting, inputTemplate, targetTemplate, prefix, sentinel, maxSource, maxTarget, beams, limit, baselines, ensemble, cost, predictions, batch, compute, forward, threads, device, asJson])
            command.Options.Add(option);
        command.WithExamples(
            "iptnative evaluate --model models/t5-gym-tiny --task clinc150-domain --data examples/gym --task-prefix",
            "iptnative evaluate --model models/t5-gym-tiny --task examples/gym/dbpedia_14 --prompt none --metric em --metric classification_f1 --baselines",
            "iptnative evaluate --model google/t5-base-lm-adapt --task boolq --data data/boolq --split dev --prompt runs/boolq/best --predictions answers.tsv",
            "iptnative evaluate --model models/t5-gym-tiny --task my-task --data my-task --prompt seed-1 --prompt seed-2 --prompt seed-3 --json",
            "iptnative evaluate --model models/t5-gym-tiny --task words-second --data examples/gym --prompt runs/quickstart/best --ensemble");
        command.SetRun((parsed, cancel) =>
        {
            var source = new TaskSource
            {
                Task = parsed.GetValue(task)!,
                Data = parsed.GetValue(data),
                Shots = parsed.GetValue(shots),
                Seed = parsed.GetValue(seed),
                Metrics = parsed.GetValue(metric) ?? [],
                Labels = parsed.GetValue(label) ?? [],
                Casting = parsed.GetValue(casting),
                InputTemplate = parsed.GetValue(inputTemplate),
                TargetTemplate = parsed.GetValue(targetTemplate),
            };
            var encoding = new EncodingOptions { TaskPrefix = parsed.GetValue(prefix), Sentinel = parsed.GetValue(sentinel), MaxSourceLength = parsed.GetValue(maxSource) };
            if (parsed.GetValue(maxTarget) is { } most && most > encoding.MaxTargetLength)
                encoding = encoding with { MaxTargetLength = most };
            var options = new EvaluationOptions { BatchSize = parsed.GetValue(batch), MaxTargetLength = parsed.GetValue(maxTarget), NumBeams = parsed.GetValue(beams) };
            RequireUsable(source, encoding, options, parsed.GetValue(split)!, parsed.GetValue(limit), parsed.GetValue(threads));
            ComputeType precision = ComputeOption.Read(parsed, compute);
            ForwardEngine? engine = ForwardOption.Read(parsed, forward, precision);
            using ComputeDevice? gpu = device.OpenGpu(parsed, precision, engine);

            // Small things first: a mistake in them should not wait for the model.
            TaskData loaded = TaskData.Load(source);
            foreach (string note in loaded.Notes)
                Console.Error.WriteLine($"iptnative: {note}");
            loaded.Require(parsed.GetValue(split)!);
            PromptEntry[] entries = [.. PromptFolder.Expand(parsed.GetValue(prompt)!)];
            string[] names = [.. entries.Select(e => e.Name)];
            Prompt?[] prompts = [.. entries.Select(e => e.Path == NoPrompt ? null : PromptFile.Read(e.Path))];
            bool vote = parsed.GetValue(ensemble) || parsed.GetValue(cost);
            if (vote && prompts.Count(p => p is not null) < 2)
                throw new UsageException($"--ensemble: found {prompts.Count(p => p is not null)} prompts, expected two or more: --prompt a --prompt b, or a folder of them.");

            using Checkpoint checkpoint = Checkpoint.Open(parsed.GetValue(model)!);
            for (int i = 0; i < names.Length; i++)
                prompts[i]?.RequireModel(checkpoint.Config, entries[i].Path);
            T5Tokenizer tokenizer = T5Tokenizer.Load(Checkpoint.FolderOf(parsed.GetValue(model)!), checkpoint.Config.VocabSize);
            using FrozenT5 frozen = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = parsed.GetValue(threads), Compute = precision, Generation = engine, Device = gpu });
            var evaluator = new Evaluator(frozen, tokenizer);
            Encoded encode = (prompt, most) => EncodedExamples.Encode(tokenizer, loaded, parsed.GetValue(split)!, encoding with { Template = prompt?.Template }, most);
            EncodedExamples examples = encode(null, parsed.GetValue(limit));
            if (examples.CutInputs > 0)
                Console.Error.WriteLine($"iptnative: {examples.CutInputs} of {examples.Count} inputs are longer than {encoding.MaxSourceLength} tokens and were cut (--max-source-length).");

            if (gpu is not null)
            {
                int rows = prompts.Max(p => p?.Length ?? 0), wanted = options.BatchSize;
                options = AnswerPlanner.Fit(gpu, StoredWeights.Of(checkpoint), options, prompts.Sum(p => (long)(p?.Length ?? 0)), rows + examples.LongestInput, options.MaxTargetLength ?? examples.LongestAnswer + Evaluator.AnswerSlack);
                if (options.BatchSize < wanted)
                    Console.Error.WriteLine($"iptnative: {options.BatchSize} answers at once instead of {wanted}: that is what the memory of {gpu.Name} allows.");
            }
            IReadOnlyList<EvaluationResult> results;
            Baselines? untuned = null;
            double together, apart = double.NaN;
            using (var progress = new ProgressLine("evaluating"))
            {
                // The first pass of a process makes sessions and machine code: none of that belongs to a comparison.
                if (parsed.GetValue(cost))
                    Run(evaluator, frozen, p => encode(p, Math.Min(examples.Count, options.BatchSize)), prompts, options, progress, cancel);
                long start = Stopwatch.GetTimestamp();
                results = Run(evaluator, frozen, Examples, prompts, options, progress, cancel);
                together = Stopwatch.GetElapsedTime(start).TotalSeconds;
                if (parsed.GetValue(cost))
                {
                    start = Stopwatch.GetTimestamp();
                    foreach (Prompt? one in prompts)
                        Run(evaluator, frozen, Examples, [one], options, progress, cancel);
                    apart = Stopwatch.GetElapsedTime(start).TotalSeconds;
                }
                if (parsed.GetValue(baselines))
                    untuned = Baselines.Measure(evaluator, tokenizer, loaded, parsed.GetValue(split)!, encoding, options, parsed.GetValue(limit), (done, total) => progress.Report(done, total, "without a prompt"), cancel);
            }
            EncodedExamples Examples(Prompt? p) => p?.Template is null ? examples : encode(p, parsed.GetValue(limit));

            EnsembleResult? voted = vote ? Ensemble.Vote(examples, [.. results.Where((_, i) => prompts[i] is not null)]) : null;
            var report = new Report(loaded, parsed.GetValue(split)!, names, results, untuned, voted, together / examples.Count, apart / examples.Count);
            if (parsed.GetValue(predictions) is { } path)
                PredictionsFile.Write(path, names.Zip(results).Concat(voted is null ? [] : [(EnsembleResult.Name, voted.Result)]).SelectMany(r => PredictionsFile.Lines(r.Item1, report.Split, r.Item2)));
            using TextWriter output = StandardOutput.Open();
            if (parsed.GetValue(asJson))
                WriteJson(output, report);
            else
                WriteTable(output, report);
            return ExitCode.Done;
        });
        return command;
    }

    // A prompt's examples: the texts, in its template where it has one.
    private delegate EncodedExamples Encoded(Prompt? prompt, int? limit);

    private sealed record Report(TaskData Task, string Split, string[] Names, IReadOnlyList<EvaluationResult> Results, Baselines? Baselines, EnsembleResult? Ensemble, double SecondsTogether, double SecondsApart)
    {
        /// <summary>Mean over the prompts that are some; null where there are fewer than two.</summary>
        public ScoreSpread? Spread
        {
            get
            {
                double[] scores = [.. Names.Zip(Results).Where(r => r.First != NoPrompt).Select(r => r.Second.Score)];
                return scores.Length < 2 ? null : ScoreSpread.Of(scores);
            }
        }
    }

    // What only the command line can get wrong is a usage error, found before anything is read.
    private static void RequireUsable(TaskSource source, EncodingOptions encoding, EvaluationOptions options, string split, int? limit, int threads)
    {
        if (split is not ("train" or "dev" or "test"))
            throw new UsageException($"--split is {split}, expected train, dev or test.");
        if (limit < 1)
            throw new UsageException($"--limit is {limit}, expected 1 or more.");
        if (threads < 0)
            throw new UsageException($"--threads is {threads}, expected 0 or more.");
        if (source.Seed < 0)
            throw new UsageException($"--seed is {source.Seed}, expected 0 or more.");
        try
        {
            foreach (string name in source.Metrics)
                Metric.Get(name);
            encoding.SourceLimit();
            options.Validate();
        }
        catch (ArgumentException e)
        {
            throw new UsageException(e.Message);
        }
    }

    private static IReadOnlyList<EvaluationResult> Run(Evaluator evaluator, FrozenT5 frozen, Func<Prompt?, EncodedExamples> examples, Prompt?[] prompts, EvaluationOptions options, ProgressLine progress, CancellationToken cancel)
    {
        Prompt[] some = [.. prompts.OfType<Prompt>()];
        using PromptMemory? memory = some.Length == 0 ? null : new PromptMemory(frozen.Device, some);
        int next = 0;
        EvaluationJob[] jobs = [.. prompts.Select(p => new EvaluationJob(examples(p), p is null ? -1 : next++))];
        return evaluator.Evaluate(jobs, memory?.Table, options, (done, total) => progress.Report(done, total, $"{done} of {total} answers"), cancel);
    }

    private static void WriteTable(TextWriter output, Report report)
    {
        output.WriteLine($"task {report.Task.Name}, {report.Split}, {report.Results[0].Examples.Count} examples");
        int width = Math.Max(20, report.Names.Max(n => n.Length) + 2);
        string[] columns = [.. report.Results[0].Scores.Select(s => s.Key)];
        if (columns.Length > 1)
            columns = [.. columns, "mean"];
        bool hasLabels = report.Results[0].Labels is not null;
        output.WriteLine($"{"prompt".PadRight(width)}{string.Concat(columns.Select(c => c.PadLeft(Math.Max(10, c.Length + 2))))}{"unfinished",12}{(hasLabels ? "no label".PadLeft(10) : "")}");
        for (int i = 0; i < report.Names.Length; i++)
            Row(report.Names[i], report.Results[i]);
        if (report.Spread is { } spread)
            output.WriteLine($"mean of {spread.Count}: {spread.Mean:0.000}, standard deviation {spread.StandardDeviation:0.000}");
        if (report.Ensemble is { } ensemble)
        {
            Row($"{EnsembleResult.Name} of {ensemble.Members.Count}", ensemble.Result);
            output.WriteLine($"best single: {report.Names.Zip(report.Results).Where(r => r.First != NoPrompt).ElementAt(ensemble.Best).First}; unanimous on {ensemble.Unanimous} of {ensemble.Result.Examples.Count}, {ensemble.Ties} ties");
            if (double.IsFinite(report.SecondsApart))
                output.WriteLine($"per example: {1e3 * report.SecondsTogether:0.00} ms in one batch, {1e3 * report.SecondsApart:0.00} ms one prompt after another");
        }
        if (report.Baselines is not { } baselines)
            return;
        Row("untuned", baselines.Untuned);
        Row("untuned, [task]", baselines.UntunedWithPrefix);
        output.WriteLine($"always \"{baselines.MajorityAnswer}\": {baselines.Majority:0.000}");

        void Row(string name, EvaluationResult result)
        {
            double[] values = [.. result.Scores.Select(s => s.Value), .. columns.Length > 1 ? [result.Score] : Array.Empty<double>()];
            output.WriteLine($"{name.PadRight(width)}{string.Concat(values.Zip(columns, (v, c) => $"{v:0.000}".PadLeft(Math.Max(10, c.Length + 2))))}{result.Unfinished,12}{(result.Labels is { } labels ? $"{labels.Illegal}".PadLeft(10) : "")}");
        }
    }

    private static void WriteJson(TextWriter output, Report report) => JsonOutput.WriteObject(output, json =>
    {
        json.WriteString("task", report.Task.Name);
        json.WriteString("split", report.Split);
        json.WriteNumber("examples", report.Results[0].Examples.Count);
        json.WriteStartArray("results");
        for (int i = 0; i < report.Names.Length; i++)
        {
            json.WriteStartObject();
            json.WriteString("prompt", report.Names[i]);
            WriteResult(json, report.Results[i]);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        if (report.Spread is { } spread)
        {
            Number(json, "mean", spread.Mean);
            Number(json, "standard_deviation", spread.StandardDeviation);
        }
        if (report.Ensemble is { } ensemble)
        {
            json.WriteStartObject("ensemble");
            json.WriteNumber("prompts", ensemble.Members.Count);
            WriteResult(json, ensemble.Result);
            json.WriteNumber("best_single", ensemble.Best);
            json.WriteNumber("unanimous", ensemble.Unanimous);
            json.WriteNumber("ties", ensemble.Ties);
            Number(json, "seconds_per_example", report.SecondsTogether);
            Number(json, "seconds_per_example_one_after_another", report.SecondsApart);
            json.WriteEndObject();
        }
        if (report.Baselines is not { } baselines)
            return;
        json.WriteStartObject("baselines");
        Number(json, "majority", baselines.Majority);
        json.WriteString("majority_answer", baselines.MajorityAnswer);
        json.WriteStartObject("untuned");
        WriteResult(json, baselines.Untuned);
        json.WriteEndObject();
        json.WriteStartObject("untuned_with_prefix");
        WriteResult(json, baselines.UntunedWithPrefix);
        json.WriteEndObject();
        json.WriteEndObject();
    });

    private static void WriteResult(Utf8JsonWriter json, EvaluationResult result)
    {
        json.WriteStartObject("scores");
        foreach ((string name, double value) in result.Scores)
            Number(json, name, value);
        json.WriteEndObject();
        Number(json, "score", result.Score);
        json.WriteNumber("unfinished", result.Unfinished);
        if (result.Labels is not { } labels)
            return;
        json.WriteStartObject("labels");
        foreach ((string name, int count) in labels.PerLabel)
            json.WriteNumber(name, count);
        json.WriteEndObject();
        json.WriteNumber("no_label", labels.Illegal);
        json.WriteNumber("empty", labels.Empty);
        json.WriteNumber("copied_from_input", labels.CopiedFromInput);
    }

    // JSON has no NaN: a score that is none is null.
    private static void Number(Utf8JsonWriter json, string name, double value)
    {
        if (double.IsFinite(value))
            json.WriteNumber(name, value);
        else
            json.WriteNull(name);
    }
}
