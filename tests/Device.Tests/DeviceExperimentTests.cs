// A whole experiment of `ipt` on a device: prompts tuned, the subspace found, tasks tuned in it, everything scored; the same numbers as on the CPU.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Tests.Gpu;
using IptNative.Model.Tests.Forward;
using IptNative.Tuning.Experiments;
using IptNative.Tuning.Ipt;
using Xunit;

namespace IptNative.Device.Tests;

public sealed class DeviceExperimentTests
{
    [Fact]
    public void EveryJobIsTheCpus()
    {
        using var model = new SmallModel(pieces: 92);
        Dictionary<string, JobResult> here = Run(model, "here", null), there = Run(model, "there", () => HostAcceleratorDevice.Create());
        Assert.Equal(here.Keys.Order(StringComparer.Ordinal), there.Keys.Order(StringComparer.Ordinal));
        Assert.Equal([JobKind.Untuned, JobKind.PromptTuning, JobKind.Subspace, JobKind.Reconstruction, JobKind.Ist], s_kinds.Order());
        foreach ((string key, JobResult expected) in here)
        {
            JobResult found = there[key];
            Assert.Null(found.Failure);
            Assert.Equal(expected.Curve.Count, found.Curve.Count);
            // float32 in another order, one or two updates of AdamW, which divides by the gradient's size.
            foreach ((CurvePoint e, CurvePoint f) in expected.Curve.Zip(found.Curve))
                Assert.Equal(e.Loss, f.Loss, 1e-3 * Math.Abs(e.Loss));
            Assert.Equal(expected.Scores.Keys.Order(StringComparer.Ordinal), found.Scores.Keys.Order(StringComparer.Ordinal));
        }
    }

    private static readonly HashSet<JobKind> s_kinds = [];

    private static Dictionary<string, JobResult> Run(SmallModel model, string name, Func<ComputeDevice>? open)
    {
        const string Method = "\"training\": { \"steps\": 2, \"batch_size\": 1, \"eval_every\": 2, \"max_source_length\": 6, \"max_target_length\": 3 }, \"optimizer\": { \"name\": \"adamw\", \"learning_rate\": 0.01, \"schedule\": \"constant\", \"warmup_steps\": 0 }";
        ExperimentConfig config = ExperimentConfig.Parse($$"""
            {
              "model": "{{SmallModel.Escaped(model.Model)}}", "output": "{{name}}", "threads": 1,
              "data": { "folder": "{{SmallModel.Escaped(Path.Combine(Goldens.Root(), "examples", "gym"))}}", "draw": 13, "dev_lines": 1, "test_lines": 1 },
              "split": { "train": ["words-first", "words-last"], "test": ["words-second"] },
              "seeds": [0], "d_i": [2],
              "evaluation": { "max_length": 1 },
              "prompt_tuning": { "prompt": { "length": 2, "init": "vocab" }, {{Method}} },
              "msf": { "d_inner": 3, {{Method}} },
              "ist": { {{Method}} },
              "challenges": { "stage_two": false, "other_data": false, "same_data": false }
            }
            """, "small.json", model.Folder);
        ExperimentData data = ExperimentData.Open(config.Data);
        ExperimentPlan plan = ExperimentPlan.Build(config, data, ExperimentModel.Read(config.Model));
        using JobStore store = JobStore.Open(config.Output);
        using IJobRunner runner = IptRunner.CreateOn(open, config, data);
        Assert.Empty(ExperimentRun.Execute(plan, store, runner, _ => { }, TestContext.Current.CancellationToken));
        s_kinds.UnionWith(plan.Jobs.Select(j => j.Kind));
        return plan.Jobs.ToDictionary(j => j.Key, j => store.Find(j)!.Result); // nothing was skipped
    }
}
