// A whole prompt-tuning run from its options: model, tasks, prompts, training, test scores, baselines, result. Deliberately not: the terminal.
using System.Diagnostics;
using System.Globalization;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Forward;
using IptNative.Model.Tokenizer;
using IptNative.Tasks.Data;
using IptNative.Tuning.Data;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Memory;
using IptNative.Tuning.Ipt;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.PTuning;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Subspaces;

namespace IptNative.Tuning.Training;

/// <summary>What a run came to.</summary>
/// <param name="Result">As in result.json.</param>
/// <param name="Outcomes">Each run's training.</param>
/// <param name="Folder">The run folder.</param>
public sealed record TrainRunReport(RunResult Result, IReadOnlyList<TrainingOutcome> Outcomes, string Folder);

/// <summary>Runs <c>iptnative train</c>.</summary>
public sealed partial class TrainRun
{
    // Of what a checkpoint remembers.
    private const string PlanKey = "activation_plan";

    private readonly RunConfig _config;
    private readonly IRunObserver _display;
    private readonly Action<string> _note;
    private readonly CancellationToken _cancel;
    private readonly Action<int, int>? _scoring;
    private readonly Func<ComputeDevice>? _open;

    private TrainRun(RunConfig config, IRunObserver display, Action<string> note, Action<int, int>? scoring, Func<ComputeDevice>? open, CancellationToken cancel) =>
        (_config, _display, _note, _scoring, _open, _cancel) = (config, display, note, scoring, open, cancel);

    /// <summary>Trains, scores and writes the run folder.</summary>
    /// <param name="config">The options, checked.</param>
    /// <param name="resume">Go on with what the run folder holds.</param>
    /// <param name="display">Told what happens, beside the folder's log.</param>
    /// <param name="note">Takes sentences for the user.</param>
    /// <param name="cancel">Ends the work soon; the folder can be resumed.</param>
    /// <param name="scoring">Told while test examples are answered after the training: how many are, of how many.</param>
    /// <returns>The scores.</returns>
    /// <exception cref="InvalidDataException">A task, the model, a prompt file or the run folder is not what it should be.</exception>
    /// <exception cref="ArgumentException">Options contradict the data.</exception>
    /// <exception cref="IOException">A file cannot be read or written.</exception>
    /// <exception cref="NotSupportedException">A GPU was asked for and cannot be had.</exception>
    /// <exception cref="InsufficientMemoryException">The steps do not fit into the budget or onto the device, or memory ran out on the way: the folder can be resumed.</exception>
    /// <exception cref="OperationCanceledException"><paramref name="cancel"/> was set.</exception>
    public static TrainRunReport Execute(RunConfig config, bool resume, IRunObserver display, Action<string> note, CancellationToken cancel, Action<int, int>? scoring = null) =>
        ExecuteOn(null, config, resume, display, note, cancel, scoring);

    /// <summary>The same, with steps on a device that is made here; null: on the one that the options name.</summary>
    internal static TrainRunReport ExecuteOn(Func<ComputeDevice>? open, RunConfig config, bool resume, IRunObserver display, Action<string> note, CancellationToken cancel, Action<int, int>? scoring = null)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(display);
        ArgumentNullException.ThrowIfNull(note);
        return new TrainRun(config, display, note, scoring, open, cancel).Execute(resume);
    }

    private TrainRunReport Execute(bool resume)
    {
        // A device that cannot be had leaves no trace.
        using ComputeDevice device = RunSettings.Open(_config.Device, _config.Threads, _config.Compute, _note, _open);
        // Small things first: a mistake in a task should not wait for the model.
        TaskData[] tasks = [.. _config.Tasks.Select(Load)];
        using Checkpoint checkpoint = Checkpoint.Open(_config.Model, new CheckpointOpenOptions { ReleasePages = true });
        _config.RequireSuits(onCpu: device is CpuDevice);
        if (_config.Forward == Runs.ForwardEngine.Ort)
            GradientPass.RequireRuntime(checkpoint, device);
        T5Tokenizer tokenizer = T5Tokenizer.Load(Checkpoint.FolderOf(_config.Model), checkpoint.Config.VocabSize);
        IReadOnlyList<RunRow> rows = _config.Rows();
        using RunFolder folder = RunFolder.Open(_config, Inputs(checkpoint, tasks), resume);
        foreach (string line in folder.Notes)
            _note(line);
        try
        {
            return Execute(folder, device, checkpoint, tokenizer, tasks, rows);
        }
        catch
        {
            folder.DiscardIfBlank();
            throw;
        }
    }

    private TrainRunReport Execute(RunFolder folder, ComputeDevice device, Checkpoint checkpoint, T5Tokenizer tokenizer, TaskData[] tasks, IReadOnlyList<RunRow> rows)
    {
        // No spinning: its idle threads would take the cores from our own kernels between two passes.
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = _config.Threads, Device = device, Compute = RunSettings.Answering(device, _config.Compute), AllowSpinning = false, ExpandQuantised = _note });
        var evaluator = new Evaluator(model, tokenizer);
        EvaluationOptions evaluation = RunSettings.Of(_config.Evaluation);
        if (_config.Method == TuningMethod.Msf)
            return FindSubspace(checkpoint, device, model, evaluator, evaluation, tokenizer, tasks, folder);

        using PromptSubspace? subspace = _config.Method == TuningMethod.Ist ? OpenSubspace(device, checkpoint) : null;
        Prompt[] initial = subspace is null ? Initial(checkpoint, tokenizer, tasks, rows) : [];
        using ITunedPrompts tuned = _config.Method switch
        {
            TuningMethod.Ist => Intrinsic(subspace!, rows), // opened above
            TuningMethod.PTuning => new EncodedPrompts(device, initial, [.. rows.Select(r => r.Seed)], _config.PTuning.Encoder, _config.PTuning.Hidden, _config.PTuning.Layers),
            _ => new DirectPrompts(device, initial),
        };
        TrainingRow[] training = [.. rows.Select(r => new TrainingRow(r, Encode(tokenizer, tasks, r.TaskIndex, "train"), tasks[r.TaskIndex].Dev.Count == 0 ? null : Encode(tokenizer, tasks, r.TaskIndex, "dev")))];
        int longest = _config.MemoryBudget is null && device is CpuDevice ? 0 : training.Max(r => Math.Max(Math.Max(r.Train.LongestInput, r.Dev?.LongestInput ?? 0), tasks[r.Row.TaskIndex].Test.Count == 0 ? 0 : Encode(tokenizer, tasks, r.Row.TaskIndex, "test").LongestInput));
        (StepPlan plan, evaluation) = Plan(checkpoint, device, training, tuned.Table, folder, evaluation, longest);
        // Nothing is written before the plan has been found to fit.
        for (int i = 0; i < initial.Length; i++)
            folder.SaveInitial(i, initial[i]);
        using GradientPass pass = RunSettings.Pass(checkpoint, model, device, _config.Loss, plan, Tape, _config.Spill);
        Report(tasks, training, tuned.Table, plan, device);
        var loss = new PromptLoss(pass, rows.Count, _config.Loss.Reduction, plan.Limit);
        var options = new TrainerOptions { Training = _config.Training, Optimizer = _config.Optimizer, Reduction = _config.Loss.Reduction, Evaluation = evaluation, Limit = plan.Limit, Remembered = new Dictionary<string, string> { [PlanKey] = plan.ToText() } };
        var card = new FrozenModelCard(_config.Model, checkpoint.Config.NumLayers, checkpoint.Config.NumHeads);
        using var trainer = new Trainer(device, tuned, training, loss, evaluator, options, new RunObservers(folder.Recorder, _display), new Store(folder, card, Template));
        IReadOnlyList<TrainingOutcome> outcomes = trainer.Run(_cancel);

        if (tuned is IntrinsicPrompts vectors)
            WriteVectors(vectors, folder);

        double seconds = trainer.Seconds;
        RunResult result = Score(evaluator, tokenizer, evaluation, tasks, training, outcomes, tuned, folder);
        result = result with { TrainSeconds = seconds, PeakBytes = PeakBytes() };
        folder.WriteResult(result);
        return new TrainRunReport(result, outcomes, folder.Path);
    }

    private PromptTemplate? Template => _config.Prompt.Template is { } template ? PromptTemplate.Parse(template) : null;

    private DType Tape => _config.Tape == TapeType.BF16 ? DType.BF16 : DType.F32;

    private TaskData Load(TaskConfig task)
    {
        TaskData data = TaskData.Load(new TaskSource
        {
            // Folder and name may be one: "data" is then the task's own folder.
            Task = task.Name ?? task.Data ?? task.DisplayName,
            Data = task.Name is null ? null : task.Data,
            TrainFile = task.Train,
            DevFile = task.Dev,
            TestFile = task.Test,
            Shots = task.Shots,
            Seed = task.Seed,
            InputTemplate = task.InputTemplate,
            TargetTemplate = task.TargetTemplate,
            Casting = task.Casting,
            Metrics = task.Metric,
            Labels = task.Labels,
            IsClassification = task.Classification,
        });
        foreach (string note in data.Notes)
            _note(note);
        data.Require("train");
        return data;
    }

    private RunInputs Inputs(Checkpoint checkpoint, TaskData[] tasks)
    {
        var inputs = new RunInputs();
        foreach (string file in checkpoint.Files)
            inputs.Add("model", file, _cancel);
        for (int i = 0; i < tasks.Length; i++)
        {
            foreach (string file in tasks[i].Files)
                inputs.Add($"task {i} {tasks[i].Name}", file, _cancel);
        }
        if (_config.Prompt.InitFile is { } start && File.Exists(start))
            inputs.Add("prompt", start, _cancel);
        if (_config.Method == TuningMethod.Ist && File.Exists(_config.Ist.Subspace))
            inputs.Add("subspace", _config.Ist.Subspace, _cancel);
        return inputs;
    }

    // What the options leave open is chosen by the memory there is; a resumed run computes as it did before.
    private Activations? Wanted() => _config.Activations switch
    {
        KeptActivations.Blocks => Activations.Blocks,
        KeptActivations.Sublayers => Activations.Sublayers,
        KeptActivations.Full => Activations.Full,
        _ => null,
    };

    // The longest input matters where answers have to fit into a budget, too.
    private (StepPlan Plan, EvaluationOptions Evaluation) Plan(Checkpoint checkpoint, ComputeDevice device, TrainingRow[] rows, PromptTable prompts, RunFolder folder, EvaluationOptions evaluation, int longestInput)
    {
        int together = _config.Training.MicroBatchSize == 0 ? checked(_config.Training.BatchSize * rows.Length) : _config.Training.MicroBatchSize;
        Model.Backward.ForwardEngine? forward = _config.Forward switch
        {
            Runs.ForwardEngine.Ort => Model.Backward.ForwardEngine.Ort,
            Runs.ForwardEngine.Native => Model.Backward.ForwardEngine.Native,
            _ => null,
        };
        bool host = device is CpuDevice;
        WeightResidence? residence = !host ? WeightResidence.Resident : _config.Weights switch
        {
            WeightPlace.Resident => WeightResidence.Resident,
            WeightPlace.Mapped => WeightResidence.Mapped,
            WeightPlace.Streamed => WeightResidence.Streamed,
            _ => null,
        };
        var free = new MemoryFreedom(Wanted(), residence, forward, together);
        int prompt = Enumerable.Range(0, prompts.Count).Max(prompts.Length);
        var request = new MemoryRequest
        {
            Weights = StoredWeights.Of(checkpoint),
            Source = prompt + Math.Max(1, rows.Max(r => r.Train.LongestInput)),
            Target = Math.Max(1, rows.Max(r => r.Train.LongestAnswer)),
            PromptRows = prompts.Rows,
            Tape = Tape,
            Spilled = _config.Spill is not null,
            AnswerPositions = _config.MemoryBudget is null && host ? 0 : prompt + longestInput,
            AnswerTexts = _config.MemoryBudget is null && host ? 0 : 1,
            AnswerTokens = evaluation.MaxTargetLength ?? rows.Max(r => Math.Max(r.Train.LongestAnswer, r.Dev?.LongestAnswer ?? 0)) + Evaluator.AnswerSlack,
            Threads = _config.Threads == 0 ? Environment.ProcessorCount : _config.Threads,
            // Tokenizer and data are there already; what the first step still loads is a few MB of code.
            RuntimeBytes = Math.Max(MemoryPlan.Runtime, Environment.WorkingSet + (20 << 20)),
        };
        long? budget = _config.MemoryBudget is { } text ? ByteSize.Parse(text) : null;
        if (!host)
            return PlanOnDevice(device, request with { Device = device.Name, Compute = _config.Compute }, free, budget, folder, evaluation);
        if (folder.State is { } state && state.Extra.TryGetValue(PlanKey, out string? known) && StepPlan.Remembered(known, free) is { } remembered)
            return (remembered, Together(evaluation, As(request, remembered), budget));
        (StepPlan plan, MemoryPlan memory) = StepPlan.For(request, free, budget, StepPlan.FreeBytes());
        EvaluationOptions answers = Together(evaluation, memory.Request, budget);
        _note($"memory plan{(_config.MemoryBudget is { } said ? $" for {said}" : "")}: {MemoryPlanner.Describe(memory)}{(budget is null ? "" : $"; {answers.BatchSize} {(answers.BatchSize == 1 ? "answer" : "answers")} at once")}.");
        return (plan, answers);
    }

    // A device's memory ends where it ends: what is free there is the budget, whether one was given or not. Answers are generated there too.
    private (StepPlan Plan, EvaluationOptions Evaluation) PlanOnDevice(ComputeDevice device, MemoryRequest request, MemoryFreedom free, long? budget, RunFolder folder, EvaluationOptions evaluation)
    {
        long? room = MemoryPlanner.DeviceBudget(device, budget);
        if (folder.State is { } state && state.Extra.TryGetValue(PlanKey, out string? known) && StepPlan.Remembered(known, free) is { } remembered)
            return (remembered, Together(evaluation, As(request, remembered), room));
        (StepPlan plan, MemoryPlan memory) = StepPlan.On(device, request, free, budget);
        EvaluationOptions answers = Together(evaluation, memory.Request, room);
        _note($"memory plan for {device.Name}{(device.FreeBytes is { } bytes ? $", {ByteSize.Text(bytes)} free" : "")}: {MemoryPlanner.Describe(memory)}; {answers.BatchSize} {(answers.BatchSize == 1 ? "answer" : "answers")} at once.");
        return (plan, answers);
    }

    private static MemoryRequest As(MemoryRequest request, StepPlan plan) => request with
    {
        Activations = plan.Activations,
        Residence = plan.Weights,
        Forward = plan.Forward,
        Examples = (int)Math.Min(plan.Limit.Examples, Math.Max(1, plan.Limit.Positions / request.Source)),
    };

    // As many answers at once as the budget leaves room for; one of the longest was part of the plan.
    private static EvaluationOptions Together(EvaluationOptions options, MemoryRequest request, long? budget)
    {
        if (budget is null)
            return options;
        for (int positions = options.MaxBatchPositions; positions > request.AnswerPositions; positions /= 2)
        {
            int texts = Math.Min(options.BatchSize, positions);
            if (MemoryPlanner.Fits(MemoryPlan.Of(request with { AnswerPositions = positions, AnswerTexts = texts }), budget.Value))
                return options with { MaxBatchPositions = positions, BatchSize = texts };
        }
        return options with { BatchSize = 1 };
    }

    private EncodedExamples Encode(T5Tokenizer tokenizer, TaskData[] tasks, int index, string split)
    {
        TaskConfig task = _config.Tasks[index];
        int? limit = split switch { "train" => task.TrainLimit, "dev" => task.DevLimit, _ => task.TestLimit };
        return EncodedExamples.Encode(tokenizer, tasks[index], split, Encoding(task), limit);
    }

    private EncodingOptions Encoding(TaskConfig task) => new()
    {
        TaskPrefix = task.TaskPrefix,
        Sentinel = task.Sentinel,
        Template = Template,
        MaxSourceLength = _config.Training.MaxSourceLength,
        MaxTargetLength = _config.Training.MaxTargetLength,
    };

    private Prompt[] Initial(Checkpoint checkpoint, T5Tokenizer tokenizer, TaskData[] tasks, IReadOnlyList<RunRow> rows)
    {
        var initialiser = new PromptInitialiser(checkpoint, tokenizer);
        var told = new HashSet<string>(StringComparer.Ordinal);
        Prompt[] prompts = new Prompt[rows.Count];
        for (int i = 0; i < prompts.Length; i++)
        {
            TaskData task = tasks[rows[i].TaskIndex];
            PromptConfig prompt = _config.Prompt;
            // Lester et al. start from labels where there are some; a task with free answers has none.
            PromptInitialisationKind kind = prompt.Init switch
            {
                PromptInit.Uniform => PromptInitialisationKind.RandomUniform,
                PromptInit.Vocab => PromptInitialisationKind.SampledVocabulary,
                PromptInit.Text => PromptInitialisationKind.Text,
                PromptInit.File => PromptInitialisationKind.File,
                _ when task.Labels.Count == 0 => PromptInitialisationKind.SampledVocabulary,
                _ => PromptInitialisationKind.ClassLabel,
            };
            if (prompt.Init == PromptInit.ClassLabel && kind == PromptInitialisationKind.SampledVocabulary && told.Add(task.Name))
                _note($"{task.Name} has no labels: its prompt starts from sampled vocabulary.");
            InitialPrompt made = initialiser.Create(
                new PromptInitialisation
                {
                    Kind = kind,
                    Length = prompt.Length,
                    Range = (float)prompt.UniformRange,
                    VocabularySize = prompt.VocabPieces,
                    Labels = task.Labels,
                    Text = prompt.InitText,
                    Path = prompt.InitFile,
                },
                rows[i].Seed);
            foreach (string note in made.Notes.Where(told.Add))
                _note(note);
            prompts[i] = made.Prompt;
        }
        return prompts;
    }

    private void Report(TaskData[] tasks, TrainingRow[] rows, PromptTable prompts, StepPlan plan, ComputeDevice device)
    {
        for (int i = 0; i < tasks.Length; i++)
        {
            TrainingRow row = rows.First(r => r.Row.TaskIndex == i);
            _note($"{row.Row.Task}: {row.Train.Count} training, {row.Dev?.Count ?? 0} development, {Math.Min(tasks[i].Test.Count, _config.Tasks[i].TestLimit ?? int.MaxValue)} test examples; scored by {(tasks[i].Metrics.Count == 0 ? "nothing" : string.Join(" and ", tasks[i].Metrics))}.");
            if (row.Train.CutInputs + row.Train.CutTargets > 0)
                _note($"{row.Row.Task}: {row.Train.CutInputs} inputs and {row.Train.CutTargets} targets of the training split are longer than allowed and were cut.");
        }
        string lengths = string.Join(", ", Enumerable.Range(0, prompts.Count).Select(prompts.Length).Distinct().Order());
        string rate = _config.Optimizer.LearningRate.ToString(CultureInfo.InvariantCulture);
        _note($"{rows.Length} {(rows.Length == 1 ? "prompt" : "prompts")} of {lengths} rows, {_config.Training.Steps} steps of {_config.Training.BatchSize * _config.Training.GradientAccumulation} examples each, {_config.Optimizer.Name} at {rate}; run folder {_config.Output}.");
        _note($"forward by {(plan.Forward == Model.Backward.ForwardEngine.Ort ? "ONNX Runtime" : "our own kernels")}, {(device is CpuDevice ? $"{plan.Weights.ToString().ToLowerInvariant()} weights" : $"weights on {device.Name}")}, {plan.Activations.ToString().ToLowerInvariant()} activations, up to {plan.Limit.Examples} examples at once.");
        if (_config.Compute == ComputeType.BF16 && device is CpuDevice)
            _note($"bf16 products: {MachineCodeStatus.Current.Detail}. Answers are generated in float32.");
    }

    private RunResult Score(Evaluator evaluator, T5Tokenizer tokenizer, EvaluationOptions evaluation, TaskData[] tasks, TrainingRow[] rows, IReadOnlyList<TrainingOutcome> outcomes, ITunedPrompts tuned, RunFolder folder)
    {
        var results = new RowResult[rows.Length];
        var predictions = new List<PredictionLine>();
        var baselines = new List<Baseline>();
        for (int i = 0; i < rows.Length; i++)
        {
            var scores = new Dictionary<string, SplitScore>();
            if (rows[i].Dev is { } dev && outcomes[i].BestStep > 0)
                scores.Add("dev", new SplitScore(outcomes[i].Best, outcomes[i].BestScores, dev.Count));
            results[i] = new RowResult { Row = rows[i].Row, Steps = outcomes[i].Steps, Stopped = outcomes[i].Stopped, BestStep = outcomes[i].BestStep, Scores = scores };
        }
        // A run that was never finite has no prompt to score.
        EvaluationJob[] jobs = [.. rows.Where(r => (outcomes[r.Row.Index].Stopped != StopReason.NonFinite || outcomes[r.Row.Index].BestStep > 0) && tasks[r.Row.TaskIndex].Test.Count > 0 && tasks[r.Row.TaskIndex].Metrics.Count > 0)
            .Select(r => new EvaluationJob(Encode(tokenizer, tasks, r.Row.TaskIndex, "test"), r.Row.Index))];
        int done = jobs.Sum(j => j.Examples.Count), total = done;
        if (_config.Evaluation.Baselines)
            total += tasks.Select((t, i) => t.Metrics.Count == 0 ? 0 : 2 * Math.Min(t.Test.Count, _config.Tasks[i].TestLimit ?? int.MaxValue)).Sum();
        if (_config.Evaluation.Test && jobs.Length > 0)
        {
            IReadOnlyList<EvaluationResult> scored = evaluator.Evaluate(jobs, tuned.Table, evaluation, Part(0, total), _cancel);
            for (int i = 0; i < jobs.Length; i++)
            {
                RowResult row = results[jobs[i].Prompt];
                results[jobs[i].Prompt] = row with { Scores = new Dictionary<string, SplitScore>(row.Scores) { ["test"] = SplitOf(scored[i]) } };
                predictions.AddRange(Lines(row.Row.Name, scored[i]));
            }
        }
        if (_config.Evaluation.Test && _config.Evaluation.Baselines)
        {
            for (int t = 0; t < tasks.Length; t++)
            {
                if (tasks[t].Test.Count == 0 || tasks[t].Metrics.Count == 0)
                    continue;
                Baselines measured = Baselines.Measure(evaluator, tokenizer, tasks[t], "test", Encoding(_config.Tasks[t]), evaluation, _config.Tasks[t].TestLimit, Part(done, total), _cancel);
                done += 2 * measured.Untuned.Examples.Count;
                string label = rows.First(r => r.Row.TaskIndex == t).Row.Task;
                baselines.Add(new Baseline(label, "majority", "test", new SplitScore(measured.Majority, [], measured.Untuned.Examples.Count)));
                baselines.Add(new Baseline(label, "untuned", "test", SplitOf(measured.Untuned)));
                baselines.Add(new Baseline(label, "untuned_with_prefix", "test", SplitOf(measured.UntunedWithPrefix)));
            }
        }
        if (predictions.Count > 0)
            folder.WritePredictions(predictions);
        return new RunResult { Rows = results, Baselines = baselines };
    }

    private Action<int, int>? Part(int before, int total) => _scoring is { } scoring ? (done, _) => scoring(before + done, total) : null;

    private static SplitScore SplitOf(EvaluationResult result) => new(result.Score, [.. result.Scores.Select(s => new MetricScore(s.Key, s.Value))], result.Examples.Count);

    private static IEnumerable<PredictionLine> Lines(string run, EvaluationResult result) =>
        result.Examples.Select((example, i) => new PredictionLine(run, "test", i, result.Predictions[i], example.Answers, example.Input));

    private static long PeakBytes()
    {
        using var process = Process.GetCurrentProcess();
        return process.PeakWorkingSet64;
    }

    private sealed class Store(RunFolder folder, FrozenModelCard card, PromptTemplate? template) : ITrainingStore
    {
        public TrainingState? State => folder.State;

        public void Save(TrainingState state) => folder.Save(state);

        public void SaveBest(int run, Prompt prompt) => folder.SaveBest(run, prompt with { Template = template }, card);
    }
}
