// What a training run does otherwise where it finds a subspace ("method": "msf") or tunes inside one ("ist"). Deliberately not: the experiment over many
// tasks, methods and dimensions (Experiments).
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Forward;
using IptNative.Model.Tokenizer;
using IptNative.Tasks.Data;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Experiments;
using IptNative.Tuning.Ipt;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Subspaces;

namespace IptNative.Tuning.Training;

public sealed partial class TrainRun
{
    private const string SubspaceName = "subspace.safetensors", VectorName = "z.npy";

    private TrainRunReport FindSubspace(Checkpoint checkpoint, ComputeDevice device, FrozenT5 model, Evaluator evaluator, EvaluationOptions evaluation, T5Tokenizer tokenizer, TaskData[] tasks, RunFolder folder)
    {
        MsfSection section = _config.MsfObjective();
        string[] names = [.. _config.Tasks.Select((_, i) => _config.LabelOf(i))];
        MsfTask[] training = [.. tasks.Select((t, i) => new MsfTask(names[i], PromptOf(i, checkpoint), Encode(tokenizer, tasks, i, "train"), t.Dev.Count == 0 ? null : Encode(tokenizer, tasks, i, "dev")))];
        Prompt first = training[0].Prompt;
        int other = Array.FindIndex(training, t => t.Prompt.Length != first.Length);
        if (other >= 0)
            throw new InvalidDataException($"{_config.Tasks[other].Prompt}: the prompt has {training[other].Prompt.Length} rows, that of tasks.0 has {first.Length}; expected one length. Train the prompts of a subspace alike.");
        using AutoencoderSubspace subspace = AutoencoderSubspace.Create(device, new SubspaceHeader
        {
            Kind = SubspaceKind.Autoencoder,
            Model = ModelIdentity.Of(checkpoint),
            PromptLength = first.Length,
            DModel = first.DModel,
            IntrinsicDim = _config.Msf.DI,
            InnerDim = section.DInner,
            InnerActivation = section.Activation,
            SourceTasks = names,
            Standardisation = PromptStandardisation.Fit(section.Standardise, training.ToDictionary(t => t.Name, t => (IReadOnlyList<Prompt>)[t.Prompt], StringComparer.Ordinal)),
        }, section.Seed);
        _note($"{tasks.Length} tasks, prompts of {first.Length} rows in units of {subspace.Header.Standardisation.Scale:0.###}, d_I {_config.Msf.DI}, {section.Training.Steps} steps; run folder {_config.Output}.");
        // Tasks of all lengths share a batch: packed rows pad nothing, whatever 'forward' leaves open.
        Model.Backward.ForwardEngine engine = _config.Forward == Runs.ForwardEngine.Ort ? Model.Backward.ForwardEngine.Ort : Model.Backward.ForwardEngine.Native;
        StepPlan plan = RunSettings.Plan(checkpoint, model, device, engine, Wanted(), _config.Training.MicroBatchSize, folder.State is { } state && state.Extra.TryGetValue(PlanKey, out string? text) ? text : null);
        using GradientPass pass = RunSettings.Pass(checkpoint, model, device, _config.Loss, plan, Tape);
        var loss = new PromptLoss(pass, MsfTraining.Groups(section, tasks.Length), section.Loss.Reduction, plan.Limit);
        using var msf = new MsfTraining(subspace, training, section, loss, evaluator, evaluation, device) { Remembered = plan.ToText() };
        var card = new FrozenModelCard(_config.Model, checkpoint.Config.NumLayers, checkpoint.Config.NumHeads);
        MsfOutcome outcome = msf.Run(new Store(folder, card, null), new RunObservers(folder.Recorder, _display), _cancel);
        if (outcome.Failure is null)
        {
            Directory.CreateDirectory(folder.BestFolder(0));
            subspace.Save(Path.Combine(folder.BestFolder(0), SubspaceName));
        }
        RunResult result = ScoreReconstructions(subspace, training, outcome, evaluator, evaluation, tokenizer, tasks, device) with { PeakBytes = PeakBytes() };
        folder.WriteResult(result);
        return new TrainRunReport(result, [new TrainingOutcome(outcome.Steps, outcome.Stopped, outcome.Failure, outcome.BestStep, outcome.Best, [])], folder.Path);
    }

    /// <summary>Each training task's prompt after it went through the subspace: T_train(MSF).</summary>
    private RunResult ScoreReconstructions(AutoencoderSubspace subspace, MsfTask[] training, MsfOutcome outcome, Evaluator evaluator, EvaluationOptions evaluation, T5Tokenizer tokenizer, TaskData[] tasks, ComputeDevice device)
    {
        RowResult[] rows = [.. training.Select((t, i) => new RowResult { Row = new RunRow(i, i, t.Name, _config.Training.Seed), Steps = outcome.Steps, Stopped = outcome.Stopped, BestStep = outcome.BestStep })];
        int[] scored = [.. Enumerable.Range(0, tasks.Length).Where(t => tasks[t].Test.Count > 0 && tasks[t].Metrics.Count > 0)];
        if (outcome.Failure is null && _config.Evaluation.Test && scored.Length > 0)
        {
            using var memory = new PromptMemory(device, [.. training.Select(t =>
            {
                float scale = subspace.Header.Standardisation.ScaleOf(t.Name);
                return subspace.Decode(subspace.Encode(t.Prompt, scale), scale);
            })]);
            EvaluationJob[] jobs = [.. scored.Select(t => new EvaluationJob(Encode(tokenizer, tasks, t, "test"), t))];
            IReadOnlyList<EvaluationResult> results = evaluator.Evaluate(jobs, memory.Table, evaluation, _scoring, _cancel);
            for (int j = 0; j < jobs.Length; j++)
                rows[scored[j]] = rows[scored[j]] with { Scores = new Dictionary<string, SplitScore> { ["test"] = SplitOf(results[j]) } };
        }
        return new RunResult { Rows = rows };
    }

    private Prompt PromptOf(int task, Checkpoint checkpoint)
    {
        string path = _config.Tasks[task].Prompt!; // the options are checked
        Prompt prompt = PromptFile.Read(path);
        prompt.RequireWidth(checkpoint.Config.DModel, path);
        return prompt;
    }

    private PromptSubspace OpenSubspace(ComputeDevice device, Checkpoint checkpoint)
    {
        string path = _config.Ist.Subspace!; // the options are checked
        // Whoever gives a file of IPT's code says by that that it is of this model: the file does not.
        PromptSubspace subspace = SubspaceFile.HasHeader(path) ? PromptSubspace.Load(device, path) : IptAutoencoderFile.Read(device, path, checkpoint.Config.DModel);
        try
        {
            // The prompts' length is the subspace's: "prompt" is not read here.
            subspace.Header.RequireFits(path, ModelIdentity.Of(checkpoint), checkpoint.Config.DModel, subspace.Header.PromptLength);
            return subspace;
        }
        catch
        {
            subspace.Dispose();
            throw;
        }
    }

    private IntrinsicPrompts Intrinsic(PromptSubspace subspace, IReadOnlyList<RunRow> rows)
    {
        _note($"tuning {subspace.IntrinsicDim} numbers a run in {_config.Ist.Subspace}, {(subspace.Header.SourceTasks.Count > 0 ? $"found from {string.Join(", ", subspace.Header.SourceTasks)}" : "which does not say what tasks and model it was found from")}.");
        return new IntrinsicPrompts(
            subspace,
            rows.SelectMany(r => TuningJobs.Vector(r.Seed, 0, subspace.IntrinsicDim, _config.Ist.InitStd, null)).ToArray(),
            [.. rows.Select(r => subspace.Header.Standardisation.ScaleOf(r.Task))]);
    }

    /// <summary>z beside each run's best prompt, which is decoded from it.</summary>
    private static void WriteVectors(IntrinsicPrompts tuned, RunFolder folder)
    {
        for (int run = 0; run < tuned.Table.Count; run++)
        {
            // A run that was never finite has no best prompt.
            if (Directory.Exists(folder.BestFolder(run)))
                NumpyFile.Write(Path.Combine(folder.BestFolder(run), VectorName), new TensorShape(tuned.Vector(run).Length), tuned.Vector(run));
        }
    }
}
