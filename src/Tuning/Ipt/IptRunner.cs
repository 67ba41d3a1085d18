// Carries an experiment's jobs out on the frozen model: the other side of the seam IJobRunner. Deliberately not: which jobs, their order, their storage.
using System.Diagnostics;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Tasks.Metrics;
using IptNative.Tuning.Data;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Experiments;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Subspaces;
using IptNative.Tuning.Training;

namespace IptNative.Tuning.Ipt;

/// <summary>Runs the jobs of Intrinsic Prompt Tuning.</summary>
public sealed class IptRunner : IJobRunner
{
    private readonly ExperimentConfig _config;
    private readonly ExperimentData _data;
    private readonly IptModel _model;
    private readonly SubspaceJobs _subspaces;
    private readonly TuningJobs _tuning;

    private IptRunner(ExperimentConfig config, ExperimentData data, Func<ComputeDevice>? open)
    {
        (_config, _data, _model) = (config, data, new IptModel(config, data, open));
        _subspaces = new SubspaceJobs(_model, config);
        _tuning = new TuningJobs(_model, config, _subspaces);
    }

    /// <summary>Opens the experiment's model.</summary>
    /// <param name="config">The experiment.</param>
    /// <param name="data">Its tasks.</param>
    /// <returns>The runner; dispose it.</returns>
    /// <exception cref="ArgumentException">An option names something that does not exist.</exception>
    /// <exception cref="InvalidDataException">The model is damaged.</exception>
    /// <exception cref="IOException">The model cannot be read.</exception>
    /// <exception cref="NotSupportedException">A GPU was asked for and cannot be had.</exception>
    public static IJobRunner Create(ExperimentConfig config, ExperimentData data)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(data);
        return CreateOn(null, config, data);
    }

    /// <summary>The same on a device that is made here; null: on the one that the options name.</summary>
    internal static IJobRunner CreateOn(Func<ComputeDevice>? open, ExperimentConfig config, ExperimentData data) => new IptRunner(config, data, open);

    /// <inheritdoc/>
    public IReadOnlyList<JobResult> Run(JobBatch batch, JobContext context, CancellationToken cancel)
    {
        ArgumentNullException.ThrowIfNull(batch);
        ArgumentNullException.ThrowIfNull(context);
        return batch.Kind switch
        {
            JobKind.Untuned => Untuned(batch, cancel),
            JobKind.PromptTuning => _tuning.PromptTuning(batch, context, cancel),
            JobKind.Subspace => [.. batch.Jobs.Select(j => _subspaces.Run(j, context, cancel))],
            JobKind.Reconstruction => Reconstruct(batch, context, cancel),
            _ => _tuning.Ist(batch, context, cancel),
        };
    }

    /// <inheritdoc/>
    public StepCost? Measure(JobBatch batch, CancellationToken cancel)
    {
        ArgumentNullException.ThrowIfNull(batch);
        const int Steps = 5;
        TrainingConfig training = _config.PromptTuning.Training;
        TaskSample[] samples = [.. batch.Jobs.Select(j => j.Samples[0])];
        var start = new PromptInitialiser(_model.Checkpoint, _model.Tokenizer);
        var options = new PromptInitialisation { Kind = PromptInitialisationKind.SampledVocabulary, Length = _config.PromptLength, VocabularySize = _config.PromptTuning.Prompt.VocabPieces };
        using var tuned = new DirectPrompts(_model.Device, [.. samples.Select((_, i) => start.Create(options, i).Prompt)]);
        StepPlan plan = _model.Plan(training, null);
        using GradientPass pass = _model.Pass(_config.PromptTuning.Loss, plan);
        var loss = new PromptLoss(pass, samples.Length, _config.PromptTuning.Loss.Reduction, plan.Limit);
        for (int i = 0; i < samples.Length; i++)
        {
            EncodedExamples train = _model.Encode(samples[i], "train", training);
            for (int e = 0; e < training.BatchSize * training.GradientAccumulation; e++)
                loss.Add(train, e % train.Count, i, i);
        }
        // The first step takes memory and compiles; it does not count.
        loss.Run(tuned.Table, tuned.Gradients, cancel);
        // The middle one of a few: another program may take the cores for a moment.
        double[] seconds = new double[Steps];
        for (int step = 0; step < Steps; step++)
        {
            cancel.ThrowIfCancellationRequested();
            long began = Stopwatch.GetTimestamp();
            loss.Run(tuned.Table, tuned.Gradients, cancel);
            seconds[step] = Stopwatch.GetElapsedTime(began).TotalSeconds;
        }
        double trained = samples.Sum(s => training.BatchSize * training.GradientAccumulation * (_data.MeanPositions(s) + _config.PromptLength));
        double perTrained = seconds.Order().ElementAt(Steps / 2) / trained;

        EvaluationJob[] jobs = [.. samples.Select((s, i) => new EvaluationJob(_model.Encode(s, "dev", training), i))];
        long begin = Stopwatch.GetTimestamp();
        _model.Evaluator.Evaluate(jobs, tuned.Table, _model.Evaluation, null, cancel);
        double evaluated = samples.Zip(jobs).Sum(s => s.Second.Examples.Count * (_data.MeanPositions(s.First) + _config.PromptLength));
        return new StepCost(perTrained, Stopwatch.GetElapsedTime(begin).TotalSeconds / evaluated);
    }

    /// <inheritdoc/>
    public void Dispose() => _model.Dispose();

    private IReadOnlyList<JobResult> Untuned(JobBatch batch, CancellationToken cancel)
    {
        TrainingConfig lengths = _config.PromptTuning.Training;
        var jobs = new List<EvaluationJob>();
        foreach (TaskSample sample in batch.Jobs.Select(j => j.Samples[0]))
        {
            jobs.Add(new EvaluationJob(_model.Encode(sample, "test", lengths, taskPrefix: false)));
            jobs.Add(new EvaluationJob(_model.Encode(sample, "test", lengths, taskPrefix: true)));
            jobs.Add(new EvaluationJob(_model.Encode(sample, "dev", lengths, taskPrefix: false)));
        }
        IReadOnlyList<EvaluationResult> results = _model.Evaluator.Evaluate(jobs, null, _model.Evaluation, null, cancel);
        return [.. batch.Jobs.Select((_, i) =>
        {
            EncodedExamples test = jobs[3 * i].Examples;
            return new JobResult
            {
                Scores = new Dictionary<string, double>
                {
                    [JobResult.Test] = results[3 * i].Score,
                    [JobResult.TestWithName] = results[(3 * i) + 1].Score,
                    [JobResult.Dev] = results[(3 * i) + 2].Score,
                    [JobResult.Majority] = LabelStatistics.MajorityScore(test.Examples, test.Examples, test.Metrics, test.Labels),
                },
            };
        })];
    }

    private IReadOnlyList<JobResult> Reconstruct(JobBatch batch, JobContext context, CancellationToken cancel)
    {
        TrainingConfig lengths = _config.PromptTuning.Training;
        var found = new (float[] Z, Prompt Prompt)[batch.Jobs.Count];
        foreach (IGrouping<string, int> group in Enumerable.Range(0, found.Length).GroupBy(i => batch.Jobs[i].InputsOf(JobNames.Subspace).First(), StringComparer.Ordinal))
        {
            using PromptSubspace subspace = _subspaces.Load(context.Input(group.Key), batch.Jobs[group.First()].PromptLength);
            foreach (int i in group)
            {
                Prompt prompt = SubspaceJobs.Best(batch.Jobs[i], batch.Jobs[i].Task, context);
                // A training task has its own scale; another one's is taken from its prompt.
                float scale = subspace.Header.SourceTasks.Contains(batch.Jobs[i].Task) ? subspace.Header.Standardisation.ScaleOf(batch.Jobs[i].Task) : subspace.Header.Standardisation.ScaleOf(prompt);
                float[] z = subspace.Encode(prompt, scale);
                found[i] = (z, subspace.Decode(z, scale));
            }
        }
        using var memory = new PromptMemory(_model.Device, [.. found.Select(f => f.Prompt)]);
        EvaluationJob[] jobs = [.. batch.Jobs.SelectMany((j, i) => (EvaluationJob[])[new(_model.Encode(j.Samples[0], "test", lengths), i), new(_model.Encode(j.Samples[0], "dev", lengths), i)])];
        IReadOnlyList<EvaluationResult> results = _model.Evaluator.Evaluate(jobs, memory.Table, _model.Evaluation, null, cancel);
        return [.. found.Select((f, i) => TuningJobs.Result(results[2 * i].Score, results[(2 * i) + 1].Score, f.Prompt, f.Z, []))];
    }
}
