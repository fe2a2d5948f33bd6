"""The thresholds of this project. Each has the requirement that it comes from."""

from ruas_jax.engine.report import Bar

BARS = {
  "search_step_64_times_faster": Bar(
    20.0, "at_least", "an exact search step at 64x64 is at least 20 times faster than eager PyTorch's"
  ),
  "search_step_320_times_faster": Bar(
    12.0, "at_least", "an exact search step at 320x320 is at least 12 times faster than eager PyTorch's"
  ),
  "search_step_share_of_limit": Bar(
    0.35, "at_least", "a search step reaches at least 35 % of the arithmetic limit, each module at each size"
  ),
  "round_milliseconds": Bar(60.0, "at_most", "a round of the tiny search takes at most 60 ms on two idle cores"),
  "exact_times_first_order": Bar(2.0, "at_most", "an exact round of tiny takes at most twice a first-order round"),
  "method_times_softmax_tiny": Bar(
    1.1, "at_most", "a step of every search method of tiny takes at most 1.1 times one with plain softmax"
  ),
  "method_times_softmax_classifier": Bar(
    1.1, "at_most", "a step of every search method of a small classifier takes at most 1.1 times one with plain softmax"
  ),
  "adversarial_times_softmax_tiny": Bar(
    1.1, "at_most", "the same for the adversarial perturbation of SmoothDARTS, which takes seven more gradients"
  ),
  "adversarial_times_softmax_classifier": Bar(
    1.1, "at_most", "the same for the adversarial perturbation of SmoothDARTS, which takes seven more gradients"
  ),
  "search_step_compile_seconds": Bar(
    10.0, "at_most", "compiling a search step takes at most 10 s with an empty cache, on two idle cores"
  ),
  "search_step_cached_compile_seconds": Bar(
    3.0, "at_most", "compiling a search step takes at most 3 s with a filled cache, on two idle cores"
  ),
  "convolution_times_the_library": Bar(
    1.0, "above", "convolution and weight gradient are faster than the library's at every shape of the search"
  ),
  "convolution_gflops": Bar(
    130.0,
    "at_least",
    "the compiled convolution of 7 to 14 channels does at least 130 GFLOP/s at 64x64 and 320x320, on two cores",
  ),
  "weight_gradient_gflops": Bar(
    90.0,
    "at_least",
    "the compiled weight gradient of 7 to 14 channels does at least 90 GFLOP/s at 64x64 and 320x320, on two cores",
  ),
  "population_64_speed_up": Bar(
    1.6, "at_least", "a population of 4 at 64x64 does at least 1.6 times the member-steps per second of one search"
  ),
  "population_member_difference": Bar(
    1e-9, "at_most", "a population's member is its solo search within 1e-9 relative in float64 after 20 steps"
  ),
  "sharding_difference": Bar(
    1e-9, "at_most", "on every mesh and on two processes, alpha and weights are one device's within 1e-9 in float64"
  ),
  "checkpointing_times_slower": Bar(
    1.05, "at_most", "a step with a snapshot every 100 steps takes at most 1.05 times one without"
  ),
  "faults_silently_wrong": Bar(0, "at_most", "no disturbed run ends with other bits"),
  "faults_unclear": Bar(0, "at_most", "every disturbed run resumes, or ends with one clear line"),
  "faults_kills": Bar(30, "at_least", "a search is killed at 30 moments or more"),
  "faults_terminations": Bar(10, "at_least", "a search is terminated at 10 moments or more"),
  "faults_corrupted_files": Bar(20, "at_least", "20 files of snapshots or more are cut off or get a bit flipped"),
  "help_over_import_jax": Bar(1.0, "at_most", "`ruas --help` takes less time than `import jax`"),
  "import_seconds": Bar(0.2, "at_most", "`import ruas_jax` takes less than 0.2 s"),
  "enhance_seconds_beside_import_jax": Bar(
    1.5, "at_most", "a 1.5-megapixel JPEG is enhanced within 1.5 s after `import jax`, with a filled cache"
  ),
  "search_tiny_empty_seconds": Bar(25.0, "at_most", "`ruas search --config tiny`: first step within 25 s, cache empty"),
  "search_tiny_filled_seconds": Bar(6.0, "at_most", "`ruas search --config tiny`: first step within 6 s, cache filled"),
  "search_lol_empty_seconds": Bar(30.0, "at_most", "`ruas search --config lol`: first step within 1.2 times 25 s"),
  "search_lol_filled_seconds": Bar(7.2, "at_most", "`ruas search --config lol`: first step within 1.2 times 6 s"),
  "train_empty_seconds": Bar(10.0, "at_most", "`ruas train`: first step within 10 s, cache empty"),
  "train_filled_seconds": Bar(4.0, "at_most", "`ruas train`: first step within 4 s, cache filled"),
  "demo_after_installation_seconds": Bar(45.0, "at_most", "the demo within 45 s, cache empty"),
  "demo_seconds": Bar(180.0, "at_most", "the demo takes at most three minutes"),
  "test_seconds": Bar(300.0, "at_most", "the tests take at most five minutes, cache empty"),
  "tpu_illumination_milliseconds": Bar(
    8.0, "at_most", "configs/lol.py on a described TPU v5e: the illumination's half of a round, 8 ms by the estimate"
  ),
  "tpu_denoising_milliseconds": Bar(
    16.0, "at_most", "configs/lol.py on a described TPU v5e: the noise removal's half of a round, 16 ms by the estimate"
  ),
  "tpu_round_compile_seconds": Bar(
    180.0, "at_most", "a round of configs/lol.py compiles for a described TPU v5e in 180 s, on two idle cores"
  ),
  "tpu_training_compile_seconds": Bar(
    60.0, "at_most", "a training step of configs/lol.py compiles for a described TPU v5e in 60 s, on two idle cores"
  ),
  "tpu_training_milliseconds": Bar(
    3.0, "at_most", "a training step of configs/lol.py on a described TPU v5e: 3 ms by the compiler's estimate"
  ),
  "tpu_training_program_megabytes": Bar(
    60.0, "at_most", "the code of a training step of configs/lol.py for a TPU v5e has at most 60 MB"
  ),
  "tpu_round_program_megabytes": Bar(
    60.0, "at_most", "the code of a round of configs/lol.py for a TPU v5e has at most 60 MB"
  ),
  "tpu_sharded_times_one_chip": Bar(
    1.1, "at_most", "on four described chips, a chip's share of a step takes at most 1.1 times as long as on one"
  ),
  "gpu_search_step_64_times_eager": Bar(
    30.0, "at_least", "an exact search step at 64x64 on a GPU is 30 times faster than eager PyTorch's on it; aim 100"
  ),
  "gpu_search_step_320_times_eager": Bar(
    30.0, "at_least", "an exact search step at 320x320 on a GPU is 30 times faster than eager PyTorch's on it; aim 100"
  ),
  "gpu_search_step_64_times_compiled": Bar(
    5.0, "at_least", "an exact search step at 64x64 on a GPU is 5 times faster than with torch.compile on it"
  ),
  "gpu_search_step_320_times_compiled": Bar(
    5.0, "at_least", "an exact search step at 320x320 on a GPU is 5 times faster than with torch.compile on it"
  ),
  "gpu_population_64_times_one": Bar(
    4.0, "at_most", "a step of 16 searches at 64x64 on a GPU takes at most 4 times as long as one search's"
  ),
  "gpu_forward_4k_per_second": Bar(
    60.0, "at_least", "a GPU enhances 60 images of 4K per second with the precision `fast`, noise removal included"
  ),
  "gpu_search_step_compile_seconds": Bar(
    20.0, "at_most", "a search step compiles for a GPU in 20 s, in each size, layout and precision"
  ),
  "gpu_paper_search_minutes": Bar(
    1.0, "at_most", "the paper's search, 20 x 689 exact steps at 320x320, takes one minute on a GPU (an aim)"
  ),
  "photo_peak_megabytes": Bar(
    1500.0, "at_most", "enhancing a 24-megapixel photograph takes at most 1.5 GB in addition to the imports"
  ),
  "folder_times_computation": Bar(
    1.15, "at_most", "a folder of 12-megapixel JPEGs takes at most 1.15 times the computation alone, on two cores"
  ),
  "video_flicker": Bar(
    1.2,
    "at_most",
    "in each scene, the brightness of an enhanced video changes at most 1.2 times as much as the video's",
  ),
  "video_changed_sound_packets": Bar(0, "at_most", "all packets of the sound keep their bytes and times"),
  "video_changed_times": Bar(0, "at_most", "all frames keep their times and durations"),
  "tiles_largest_difference": Bar(1e-5, "at_most", "windows give the whole image within 1e-5"),
  "exported_difference": Bar(
    1e-4, "at_most", "ONNX and StableHLO give this package's results within 1e-4, each variant at each size"
  ),
  "exported_kilobytes": Bar(100.0, "at_most", "an exported file has at most 100 kB"),
  "page_largest_levels": Bar(
    2.0, "at_most", "the page in a browser gives this package's result within 2 of 255 levels"
  ),
  "ruas_i_times_faster": Bar(5.0, "at_least", "RUAS_i at 600x400 is at least 5 times faster than PyTorch eager"),
  "ruas_i+n_times_faster": Bar(4.0, "at_least", "RUAS_i+n at 600x400 is at least 4 times faster than PyTorch eager"),
  "table_architectures": Bar(2000, "at_least", "the table of images has at least 2,000 architectures"),
  "table_architectures_with_seeds": Bar(300, "at_least", "at least 300 of them were trained with three seeds"),
  "table_denoising_noise_over_spread": Bar(
    0.25, "at_most", "PSNR: the deviation between seeds is at most a quarter of that between architectures"
  ),
  "table_digits_noise_over_spread": Bar(0.25, "at_most", "the same for the accuracy of the digits"),
  "table_denoising_retrained_over_tolerance": Bar(
    1.0, "at_most", "20 random entries trained from scratch agree with the table within its tolerance"
  ),
  "table_digits_retrained_over_tolerance": Bar(1.0, "at_most", "the same for 20 entries of the digits"),
  "table_megabytes": Bar(2.0, "at_most", "the two tables have at most 2 MB in the package"),
  "study_methods": Bar(10, "at_least", "the study has at least ten methods on each table"),
  "study_minutes": Bar(10.0, "at_most", "the study is made again from the tables within ten minutes on two cores"),
  "normal_photographs_kept": Bar(
    25.0, "at_least", "a normal photograph keeps at least 25 dB to itself with the general weights"
  ),
  "lol_dev_psnr_above_input": Bar(7.22, "above", "mean PSNR on LOL development pairs is above the input's 7.22 dB"),
  "lol_dev_ssim_above_input": Bar(0.166, "above", "mean SSIM on LOL development pairs is above the input's 0.166"),
  "lol_dev_gt_mean_psnr": Bar(
    24.5, "at_least", "mean GT-mean PSNR on LOL development pairs, without references in training (an aim)"
  ),
  "lol_dev_gt_mean_ssim": Bar(
    0.80, "at_least", "mean GT-mean SSIM on LOL development pairs, without references in training (an aim)"
  ),
  "lol_parameters": Bar(3500, "at_most", "the model for LOL has at most 3,500 parameters"),
  "expected_cost_rank_correlation": Bar(
    0.9,
    "at_least",
    "rank correlation between the expected cost of searches and the counted cost of what they derive",
  ),
  "cost_front_times_random_search": Bar(
    1.2, "at_least", "the front of one population has 1.2 times the area of random search with the same training steps"
  ),
  "cost_front_share_of_the_true_front": Bar(
    0.95, "at_least", "the front of one population has at least 95 % of the area of the table's true front"
  ),
  "cost_front_rank_correlation": Bar(
    0.9, "at_least", "rank correlation between the expected cost of searches and the counted cost of what they derive"
  ),
  "latency_rank_correlation": Bar(
    0.9, "at_least", "rank correlation between the table of latency and the times of networks that it was not made from"
  ),
  "cost_aware_operations_share": Bar(
    0.6, "at_most", "a cost-aware architecture on LOL has at most 60 % of the bundled one's operations"
  ),
  "cost_aware_psnr_below_bundled": Bar(
    0.1, "at_most", "that architecture is at most 0.1 dB below the bundled one on LOL's development pairs, three seeds"
  ),
  "cost_aware_ssim_below_bundled": Bar(
    0.003, "at_most", "that architecture is at most 0.003 SSIM below the bundled one on LOL's development pairs"
  ),
  "precision_enhanced_levels": Bar(
    0.5, "at_most", "the default precision changes no number of an enhanced image by more than half a level of 255"
  ),
  "bilevel_small_times_faster": Bar(
    2.0, "at_least", "an outer step is twice as fast as PyTorch's and its libraries' on each small bilevel problem"
  ),
  "bilevel_large_times_faster": Bar(
    1.2, "at_least", "an outer step is 1.2 times as fast as PyTorch's and its libraries' on the largest bilevel problem"
  ),
  "bilevel_oracle_calls_over_theirs": Bar(
    1.1, "at_most", "the solvers need at most 1.1 times the oracle calls of benchmark_bilevel's on its problems"
  ),
  "bilevel_cleaning_accuracy_below_clean": Bar(
    0.01, "at_most", "hyper-cleaning with 40 % wrong labels: accuracy within 1 % of training on the clean part"
  ),
  "bilevel_cleaning_auc": Bar(
    0.97, "at_least", "the learned weights separate clean from wrong labels, AUC .97, mean of ten seeds"
  ),
}
