using IptNative.Tuning.Experiments;
using IptNative.Tuning.Ipt;
using Xunit;

namespace IptNative.Tuning.Tests.Ipt;

public sealed class IptRunnerTests
{
    [Fact]
    public void StoppedThreeTimesEqualsNeverStopped()
    {
        using var whole = new ToyExperiment("whole");
        Assert.True(whole.Run());
        using var stopped = new ToyExperiment("stopped");
        // In prompt tuning, in subspace finding, in intrinsic tuning: a report comes with every step.
        Assert.False(stopped.Run(stopAfter: 6));
        Assert.NotEmpty(Directory.GetFiles(stopped.Config.Output, "state.safetensors", SearchOption.AllDirectories));
        Assert.False(stopped.Run(stopAfter: 9));
        Assert.False(stopped.Run(stopAfter: 12));
        Assert.True(stopped.Run());
        SortedDictionary<string, byte[]> expected = whole.Results(), found = stopped.Results();
        Assert.Equal(expected.Keys, found.Keys);
        Assert.True(expected.Count > 30, $"{expected.Count} files");
        foreach ((string file, byte[] bytes) in expected)
            Assert.True(bytes.AsSpan().SequenceEqual(found[file]), file);
    }

    [Fact]
    public void EveryJobLeavesWhatTheReportReads()
    {
        using var toy = new ToyExperiment("contents");
        Assert.True(toy.Run());
        using JobStore store = JobStore.Open(toy.Config.Output);
        foreach (Job job in toy.Plan.Jobs)
        {
            StoredJob stored = store.Find(job)!; // the run is complete
            Assert.Null(stored.Result.Failure);
            string[] scores = job.Kind switch
            {
                JobKind.Untuned => [JobResult.Test, JobResult.Dev, JobResult.TestWithName, JobResult.Majority],
                JobKind.Subspace => [JobResult.Dev],
                _ => [JobResult.Test, JobResult.Dev],
            };
            Assert.All(scores, name => Assert.True(stored.Result.Scores.ContainsKey(name), $"{job.Key} {name}"));
            if (job.Kind is JobKind.PromptTuning or JobKind.Reconstruction or JobKind.Ist)
                Assert.Equal([3L, 128L], JobStore.ReadTensor(stored, JobResult.PromptTensor).Shape);
            if (job.Kind is JobKind.Reconstruction or JobKind.Ist)
                Assert.Equal([2L], JobStore.ReadTensor(stored, JobResult.Z).Shape);
            if (job.Kind is JobKind.PromptTuning or JobKind.Subspace or JobKind.Ist)
                Assert.True(stored.Result.Curve.Count > 2, job.Key);
        }
    }

    [Theory]
    [InlineData("lbfgs")]
    [InlineData("cma_es")]
    public void SearchesLowerTheLossAndRestartsCount(string search)
    {
        using var toy = new ToyExperiment(search, "\"baselines\": { \"random_prompt\": true, \"random_linear\": true, \"fastfood\": true, \"pca\": true, \"d_i\": [1] }",
            $"ist.search={search}", "ist.restarts=2", "ist.population=4", "ist.init_std=0.5", "ist.start_at_mean=true", "seeds=[0]");
        Assert.True(toy.Run());
        Job[] tuned = [.. toy.Plan.Jobs.Where(j => j.Kind == JobKind.Ist)];
        Assert.Equal([SubspaceMethod.Msf, SubspaceMethod.RandomPrompt, SubspaceMethod.RandomLinear, SubspaceMethod.Fastfood, SubspaceMethod.Pca], tuned.Select(j => j.Subspace).Distinct().Order());
        foreach (Job job in tuned)
        {
            JobResult result = toy.Result(job.Key);
            Assert.Null(result.Failure);
            double[] losses = [.. result.Curve.Select(p => p.Loss).Where(double.IsFinite)];
            Assert.True(losses[^1] <= losses[0], job.Key);
        }
    }

    [Theory]
    [InlineData("msf.optimizer={\"name\":\"adafactor\",\"schedule\":\"constant\",\"warmup_steps\":0}", "msf.optimizer.name is \"adafactor\", expected \"adamw\"")]
    [InlineData("ist={\"search\":\"cma_es\",\"init_std\":0,\"training\":{\"steps\":5,\"eval_every\":5},\"optimizer\":{\"warmup_steps\":1}}", "ist.init_std is 0 with search \"cma_es\", expected a number above 0")]
    public void ImpossibleOptionsAreNamed(string option, string expected)
    {
        InvalidDataException e = Assert.Throws<InvalidDataException>(() => new ToyExperiment("options", "", option));
        Assert.Contains(expected, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnUnknownActivationIsRefusedBeforeAnyWork()
    {
        using var toy = new ToyExperiment("activation", "", "msf.activation=tahn");
        ArgumentException e = Assert.Throws<ArgumentException>(() => IptRunner.Create(toy.Config, toy.Data));
        Assert.Contains("msf.activation is \"tahn\", expected one of tanh, relu, gelu, identity", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void APromptThatFailedIsNeverReplaced()
    {
        using var toy = new ToyExperiment("missing");
        Job space = toy.Plan.Jobs.First(j => j.Kind == JobKind.Subspace);
        var failed = new StoredJob("x", new string('0', 64), toy.Folder, new JobResult { Failure = "step 3: the loss is NaN." });
        InvalidDataException e = Assert.Throws<InvalidDataException>(() => SubspaceJobs.Best(space, "words-last", new JobContext(_ => failed, toy.Folder, (_, _) => { })));
        Assert.Contains("no trained prompt of task words-last is there, expected at least one run that did not fail", e.Message, StringComparison.Ordinal);
    }
}
