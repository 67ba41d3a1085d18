// A runner whose results are a fixed function of the job: enough to test everything around training. Deliberately no model.
using System.Globalization;
using IptNative.Tuning.Experiments;
using Xunit;

namespace IptNative.Tuning.Tests.Experiments;

internal sealed class FakeRunner(ExperimentData data) : IJobRunner
{
    /// <summary>Keys of the jobs that were run, in order.</summary>
    public List<string> Ran { get; } = [];

    /// <summary>Batches until it is stopped in the middle of one.</summary>
    public int StopAfter { get; init; } = int.MaxValue;

    /// <summary>Says whether a job diverges.</summary>
    public Func<Job, bool> Diverges { get; init; } = _ => false;

    /// <summary>Inputs of the jobs that were asked for.</summary>
    public List<string> Read { get; } = [];

    private int _batches;

    public IReadOnlyList<JobResult> Run(JobBatch batch, JobContext context, CancellationToken cancel)
    {
        Assert.True(Directory.Exists(context.WorkFolder));
        if (_batches++ == StopAfter)
        {
            File.WriteAllText(Path.Combine(context.WorkFolder, "checkpoint"), "half done");
            throw new OperationCanceledException("stopped by the test");
        }
        List<JobResult> results = [];
        foreach (Job job in batch.Jobs)
        {
            Assert.Equal(batch.Kind, job.Kind);
            foreach (JobInput input in job.Inputs.Where(i => i.Role != JobNames.Prompt))
            {
                Assert.Null(context.Input(input.Key).Result.Failure);
                Read.Add(input.Key);
            }
            Ran.Add(job.Key);
            context.Progress(results.Count / (double)batch.Jobs.Count, job.Key);
            results.Add(Diverges(job) ? new JobResult { Failure = "loss is NaN at step 7" } : Make(job));
        }
        return results;
    }

    public StepCost? Measure(JobBatch batch, CancellationToken cancel) => new StepCost(1e-4, 3e-5);

    public void Dispose()
    {
    }

    private JobResult Make(Job job)
    {
        var random = new Random(int.Parse(job.Hash.AsSpan(0, 7), NumberStyles.HexNumber, CultureInfo.InvariantCulture));
        double noise = (random.NextDouble() - 0.5) * 0.08;
        bool cls = data.Task(job.Task).IsClassification;
        // A task's own level, from its name alone.
        double level = 0.45 + (0.45 * (job.Task.Sum(c => c * 7) % 100 / 100.0));
        double space = job.Subspace switch { SubspaceMethod.Msf => 1, SubspaceMethod.Pca => 0.85, _ => 0.3 };
        double reach = space * (1 - Math.Exp(-(job.DI + 1) / 2.5));
        bool unseen = job.Samples[0].Draw == $"{FakeGym.OtherDraw}";
        double score = job.Kind switch
        {
            JobKind.Untuned => level * 0.15,
            JobKind.PromptTuning => level + (job.Inputs.Count > 0 ? 0.03 + (noise * 0.3) : noise),
            JobKind.Reconstruction => level * (1.05 * reach) + (noise * 0.5),
            JobKind.Ist => level * reach * (unseen ? 0.9 : 0.97) + (noise * 0.6),
            _ => 0,
        };
        if (job.Task == "last" && job.Kind == JobKind.PromptTuning) score = 0;
        Dictionary<string, double> scores = new() { [JobResult.Test] = Math.Clamp(score, 0, 1), [JobResult.Dev] = Math.Clamp(score + 0.02, 0, 1) };
        if (job.Kind == JobKind.Untuned) (scores[JobResult.TestWithName], scores[JobResult.Majority]) = (level * 0.4, cls ? 0.5 : 0.05);
        Dictionary<string, JobTensor> tensors = job.Kind switch
        {
            JobKind.Ist => new() { [JobResult.Z] = new JobTensor([job.DI], [.. Enumerable.Range(0, job.DI).Select(i => (float)((cls ? 1 : -1) + random.NextDouble() - (i * 0.2)))]) },
            JobKind.PromptTuning => new() { [JobResult.PromptTensor] = new JobTensor([job.PromptLength, 8], [.. Enumerable.Range(0, job.PromptLength * 8).Select(_ => (float)random.NextDouble())]) },
            JobKind.Subspace => new() { ["prompt_W1.weight"] = new JobTensor([job.DI, 2], new float[job.DI * 2]) },
            _ => [],
        };
        CurvePoint[] curve = job.Kind is JobKind.Untuned or JobKind.Reconstruction ? [] : [.. Enumerable.Range(1, 30).Select(i => new CurvePoint(i * 10, (3.5 * Math.Exp(-i / 8.0)) + 0.4 + (noise * Math.Sin(i)), i % 5 == 0 ? level : double.NaN))];
        return new JobResult { Scores = scores, Tensors = tensors, Curve = curve, Notes = job.Kind == JobKind.Subspace ? new Dictionary<string, string> { ["d_i"] = $"{job.DI}" } : new() };
    }
}
