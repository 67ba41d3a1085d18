using IptNative.Kernels;
using IptNative.Model.Checkpoints;
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

    /// <summary>A search is told its old answers again: one that is stopped twice ends where one ends that never was.</summary>
    [Theory]
    [InlineData("lbfgs")]
    [InlineData("cma_es")]
    public void AStoppedSearchGoesOn(string search)
    {
        string[] options = [$"ist.search={search}", "ist.population=4", "ist.init_std=0.5", "ist.restarts=2", "challenges.stage_two=false", "challenges.other_data=false", "seeds=[0]"];
        using var whole = new ToyExperiment($"search-{search}", "", options);
        Assert.True(whole.Run());
        using var stopped = new ToyExperiment($"stopped-{search}", "", options);
        foreach (string turn in (string[])["turn 2/5", "turn 4/5"])
        {
            bool first = true;
            Assert.False(stopped.Run(p => p.Text.StartsWith("ist", StringComparison.Ordinal) && p.Text.Contains(turn, StringComparison.Ordinal) && first && !(first = false)));
            string log = Assert.Single(Directory.GetFiles(Path.Combine(stopped.Config.Output, "working"), "state.safetensors", SearchOption.AllDirectories));
            byte[] bytes = File.ReadAllBytes(log);
            File.WriteAllBytes(log, bytes[..^3]);
            Assert.Contains(log, Assert.ThrowsAny<InvalidDataException>(() => stopped.Run()).Message, StringComparison.Ordinal);
            File.WriteAllBytes(log, bytes);
        }
        Assert.True(stopped.Run());
        SortedDictionary<string, byte[]> expected = whole.Results(), found = stopped.Results();
        Assert.Equal(expected.Keys, found.Keys);
        foreach ((string file, byte[] result) in expected)
            Assert.True(result.AsSpan().SequenceEqual(found[file]), file);
    }

    /// <summary>Both change what is trained, in the last digits, and nothing that is only scored.</summary>
    [Fact]
    public void ProductsAndTapeInBf16ReachEveryTraining()
    {
        string[] little = ["seeds=[0]", "challenges.stage_two=false", "challenges.other_data=false", "challenges.same_data=false"];
        using var plain = new ToyExperiment("f32", "", little);
        using var half = new ToyExperiment("bf16", "", [.. little, "compute=bf16", "tape=bf16"]);
        Assert.True(plain.Run() && half.Run());
        foreach (Job job in plain.Plan.Jobs)
        {
            bool trained = job.Kind is JobKind.PromptTuning or JobKind.Subspace or JobKind.Ist;
            // A reconstruction is not trained, and is made from what was.
            Assert.Equal(job.Kind != JobKind.Untuned, job.Hash != half.Plan[job.Key].Hash);
            if (!trained) continue;
            double expected = plain.Result(job.Key).Curve[0].Loss, found = half.Result(job.Key).Curve[0].Loss;
            Assert.NotEqual(expected, found);
            // bf16 keeps 8 bits; sums over 128 numbers in float32 leave far less than that of a loss, whose start is the same.
            Assert.Equal(expected, found, 0.02 * Math.Abs(expected));
        }
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
    [InlineData("msf.activation=tahn", "msf.activation is the text \"tahn\", expected one of \"tanh\", \"relu\", \"gelu\", \"identity\"; did you mean \"tanh\"?")]
    [InlineData("ist={\"search\":\"cma_es\",\"init_std\":0,\"training\":{\"steps\":5,\"eval_every\":5},\"optimizer\":{\"warmup_steps\":1}}", "ist.init_std is 0 with search \"cma_es\", expected a number above 0")]
    public void ImpossibleOptionsAreNamed(string option, string expected)
    {
        InvalidDataException e = Assert.Throws<InvalidDataException>(() => new ToyExperiment("options", "", option));
        Assert.Contains(expected, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void NanInOneOfSixteenStopsThatOneAlone()
    {
        const string Broken = "/seed5";
        using var toy = new ToyExperiment("sixteen", "", $"seeds=[{string.Join(',', Enumerable.Range(0, 16))}]", "msf.best_prompt=false",
            "challenges={\"reconstruction\":false,\"unseen_reconstruction\":false,\"same_data\":false,\"other_data\":false}");
        Assert.True(toy.Run());
        JobBatch sixteen = Assert.Single(toy.Plan.Batches, b => b.Kind == JobKind.PromptTuning && b.Jobs[0].InputsOf(JobNames.Init).Any());
        Assert.Equal(16, sixteen.Jobs.Count);
        Dictionary<string, JobResult> before = sixteen.Jobs.ToDictionary(j => j.Key, j => toy.Result(j.Key));

        // The prompt that one of them starts from is damaged, and all sixteen run again.
        Job init = toy.Plan[sixteen.Jobs.Single(j => j.Key.EndsWith(Broken, StringComparison.Ordinal)).InputsOf(JobNames.Init).Single()];
        using (JobStore store = JobStore.Open(toy.Config.Output))
        {
            StoredJob stored = store.Find(init)!; // the run is complete
            JobTensor prompt = JobStore.ReadTensor(stored, JobResult.PromptTensor);
            prompt.Values[7] = float.NaN;
            new SafetensorsWriter().Add(JobResult.PromptTensor, new TensorShape([.. prompt.Shape]), prompt.Values).Save(stored.TensorPath);
            Directory.Delete(Path.GetDirectoryName(store.Find(sixteen.Jobs[0])!.Folder)!, recursive: true); // stored a moment ago, in a batch's folder
        }
        Assert.True(toy.Run());
        foreach (Job job in sixteen.Jobs)
        {
            JobResult result = toy.Result(job.Key);
            if (job.Key.EndsWith(Broken, StringComparison.Ordinal))
                Assert.Matches("^step 1, batch of words-second: the loss is NaN; first not finite: .+, example [1-9][0-9]* of words-second", result.Failure);
            else
                Assert.Equal((null, before[job.Key].Scores[JobResult.Test], before[job.Key].Curve[^1]), (result.Failure, result.Scores[JobResult.Test], result.Curve[^1]));
        }
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
