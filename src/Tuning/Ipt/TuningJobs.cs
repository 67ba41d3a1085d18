// Prompt tuning and intrinsic tuning of many tasks and seeds side by side, from jobs to results. Deliberately not: the loops (Trainer, VectorSearch).
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Forward;
using IptNative.Optimizers;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Experiments;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Subspaces;
using IptNative.Tuning.Training;

namespace IptNative.Tuning.Ipt;

/// <summary>Runs the jobs that tune something of one task each.</summary>
internal sealed class TuningJobs(IptModel model, ExperimentConfig config, SubspaceJobs subspaces)
{
    /// <summary>A tuned candidate of a job: its dev score and what it is.</summary>
    private sealed record Candidate(double Dev, Prompt? Prompt, float[]? Z, IReadOnlyList<CurvePoint> Curve, string? Failure);

    public IReadOnlyList<JobResult> PromptTuning(JobBatch batch, JobContext context, CancellationToken cancel)
    {
        PromptTuningSection section = config.PromptTuning;
        TrainingRow[] rows = [.. batch.Jobs.Select((job, i) => Row(job, i, $"{i}", section.Training))];
        using var tuned = new DirectPrompts(model.Device, [.. batch.Jobs.Select(j => Start(j, context))]);
        var curves = new TrainingCurves(rows.Length, section.Training.Steps, context.Progress);
        IReadOnlyList<TrainingOutcome> outcomes = Train(tuned, rows, section.Training, section.Optimizer, section.Loss, curves, batch, context, cancel);
        return Score(batch, [.. outcomes.Select((o, i) => CandidateOf(tuned, o, i, null, curves))], section.Training, cancel);
    }

    public IReadOnlyList<JobResult> Ist(JobBatch batch, JobContext context, CancellationToken cancel)
    {
        IstSection section = config.Ist;
        StoredJob stored = context.Input(batch.Jobs[0].InputsOf(JobNames.Subspace).First());
        using PromptSubspace subspace = subspaces.Load(stored, batch.Jobs[0].PromptLength);
        // Restarts are runs of their own, job after job.
        (Job Job, int Restart)[] runs = [.. batch.Jobs.SelectMany(j => Enumerable.Range(0, section.Restarts).Select(r => (j, r)))];
        float[]? mean = section.StartAtMean ? SubspaceJobs.MeanVector(stored, subspace) : null;
        float[] start = [.. runs.SelectMany(r => Vector(r.Job.Seed, r.Restart, subspace.IntrinsicDim, section.InitStd, mean))];
        float[] scales = [.. runs.Select(r => subspace.Header.Standardisation.ScaleOf(r.Job.Task))];
        TrainingRow[] rows = [.. runs.Select((r, i) => Row(r.Job, i, $"{i}.{r.Restart}", section.Training))];
        var curves = new TrainingCurves(rows.Length, section.Training.Steps, context.Progress);
        Candidate[] candidates;
        if (section.Search == IstSearch.Gradient)
        {
            using var tuned = new IntrinsicPrompts(subspace, start, scales);
            IReadOnlyList<TrainingOutcome> outcomes = Train(tuned, rows, section.Training, section.Optimizer, section.Loss, curves, batch, context, cancel);
            candidates = [.. outcomes.Select((o, i) => CandidateOf(tuned, o, i, tuned.Vector(i), curves))];
        }
        else
        {
            var kept = new SearchLog(context.WorkFolder, batch.Hash, [.. rows.Select(r => r.Row)]);
            StepPlan plan = model.Plan(section.Training, kept.State);
            kept.Remembered = new Dictionary<string, string> { [IptModel.PlanKey] = plan.ToText() };
            using GradientPass pass = model.Pass(section.Loss, plan);
            var search = new VectorSearch(subspace, rows, scales, section, pass, plan.Limit, model.Evaluator, model.Evaluation, kept);
            VectorOutcome[] found = search.Run(start, curves, cancel);
            candidates = [.. found.Select((f, i) => new Candidate(f.Dev, subspace.Decode(f.Z, scales[i]), f.Z, curves.Of(i), curves.Failure(i)))];
        }
        Candidate[] best = [.. candidates.Chunk(section.Restarts).Select(all => all.Where(c => c.Failure is null).MaxBy(c => double.IsNaN(c.Dev) ? double.NegativeInfinity : c.Dev) ?? all[0])];
        return Score(batch, best, section.Training, cancel);
    }

    /// <summary>z of a seed and restart: normal about zero, or about the training tasks' mean.</summary>
    public static float[] Vector(int seed, int restart, int dI, double deviation, float[]? mean)
    {
        var random = new SeededRandom(seed, restart);
        return [.. Enumerable.Range(0, dI).Select(k => (float)((mean?[k] ?? 0) + (deviation * random.NextNormal())))];
    }

    /// <summary>Test and dev scores of prompts; a failed one gets its reason instead.</summary>
    private IReadOnlyList<JobResult> Score(JobBatch batch, Candidate[] candidates, TrainingConfig training, CancellationToken cancel)
    {
        int[] scored = [.. Enumerable.Range(0, candidates.Length).Where(i => candidates[i].Failure is null)];
        double[] test = new double[candidates.Length];
        if (scored.Length > 0)
        {
            using var memory = new PromptMemory(model.Device, [.. scored.Select(i => candidates[i].Prompt!)]); // only a failed one has none
            IReadOnlyList<EvaluationResult> results = model.Evaluator.Evaluate([.. scored.Select((i, row) => new EvaluationJob(model.Encode(batch.Jobs[i].Samples[0], "test", training), row))], memory.Table, model.Evaluation, null, cancel);
            for (int row = 0; row < scored.Length; row++)
                test[scored[row]] = results[row].Score;
        }
        return [.. candidates.Select((c, i) => c.Failure is not null ? new JobResult { Failure = c.Failure, Curve = c.Curve } : Result(test[i], c.Dev, c.Prompt!, c.Z, c.Curve))];
    }

    /// <summary>A result as the store keeps it.</summary>
    public static JobResult Result(double test, double dev, Prompt prompt, float[]? z, IReadOnlyList<CurvePoint> curve)
    {
        var tensors = new Dictionary<string, JobTensor>(StringComparer.Ordinal) { [JobResult.PromptTensor] = new([prompt.Length, prompt.DModel], prompt.Values) };
        if (z is not null)
            tensors.Add(JobResult.Z, new JobTensor([z.Length], z));
        return new JobResult { Scores = new Dictionary<string, double> { [JobResult.Test] = test, [JobResult.Dev] = dev }, Curve = curve, Tensors = tensors };
    }

    private IReadOnlyList<TrainingOutcome> Train(ITunedPrompts tuned, TrainingRow[] rows, TrainingConfig training, OptimizerConfig optimizer, LossConfig lossOptions, TrainingCurves curves, JobBatch batch, JobContext context, CancellationToken cancel)
    {
        var store = new BatchCheckpoint(context.WorkFolder, batch.Hash, [.. rows.Select(r => r.Row)], curves);
        StepPlan plan = model.Plan(training, store.State);
        using GradientPass pass = model.Pass(lossOptions, plan);
        var loss = new PromptLoss(pass, rows.Length, lossOptions.Reduction, plan.Limit);
        var options = new TrainerOptions
        {
            Training = training,
            Optimizer = optimizer,
            Reduction = lossOptions.Reduction,
            Evaluation = model.Evaluation,
            Limit = plan.Limit,
            Remembered = new Dictionary<string, string> { [IptModel.PlanKey] = plan.ToText() },
        };
        using var trainer = new Trainer(model.Device, tuned, rows, loss, model.Evaluator, options, curves, store);
        return trainer.Run(cancel);
    }

    private static Candidate CandidateOf(ITunedPrompts tuned, TrainingOutcome outcome, int run, float[]? z, TrainingCurves curves)
    {
        string? failure = outcome.Stopped == StopReason.NonFinite ? curves.Failure(run) ?? outcome.Detail ?? $"a number was not finite at step {outcome.Steps}." : null;
        return new Candidate(outcome.Best, failure is null ? PromptOf(tuned.Table, run) : null, z, curves.Of(run), failure);
    }

    private static Prompt PromptOf(PromptTable table, int run)
    {
        int rows = table.Length(run), d = table.DModel;
        return new Prompt(table.Values.Slice((long)table.First(run) * d, (long)rows * d).ToArray<float>(), rows, d);
    }

    private TrainingRow Row(Job job, int index, string name, TrainingConfig training) =>
        new(new RunRow(index, index, $"{name}-{job.Task}", job.Seed), model.Encode(job.Samples[0], "train", training), model.Encode(job.Samples[0], "dev", training));

    private Prompt Start(Job job, JobContext context)
    {
        if (job.InputsOf(JobNames.Init).FirstOrDefault() is { } init)
        {
            JobTensor tensor = JobStore.ReadTensor(context.Input(init), JobResult.PromptTensor);
            return new Prompt(tensor.Values, job.PromptLength, model.DModel);
        }
        IReadOnlyList<string> labels = model.Encode(job.Samples[0], "train", config.PromptTuning.Training).Labels;
        PromptConfig prompt = config.PromptTuning.Prompt;
        PromptInitialisationKind kind = prompt.Init switch
        {
            PromptInit.Uniform => PromptInitialisationKind.RandomUniform,
            PromptInit.Vocab => PromptInitialisationKind.SampledVocabulary,
            // Lester et al. start from labels where there are some; a task with free answers has none.
            _ when labels.Count == 0 => PromptInitialisationKind.SampledVocabulary,
            _ => PromptInitialisationKind.ClassLabel,
        };
        return new PromptInitialiser(model.Checkpoint, model.Tokenizer).Create(
            new PromptInitialisation { Kind = kind, Length = job.PromptLength, Range = (float)prompt.UniformRange, VocabularySize = prompt.VocabPieces, Labels = labels }, job.Seed).Prompt;
    }
}
